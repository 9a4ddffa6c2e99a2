"""What this server can do, and who is alive to do it."""

from __future__ import annotations

from quant_lens_engine.schema import Capabilities, WorkerFacts
from quant_lens_engine.version import __version__
from worker.store import keys
from worker.store.connection import Client

QUEUES = ("runs", "inspect")
"""What a worker serves that was not told: it computes."""
FETCH_QUEUE = "fetch"
"""Models from the hub. Its worker speaks to the network and opens no file; it computes nothing."""
ALIVE_S = 15
"""A worker that has been silent for so long is not listed any more."""


class CapabilityStore:
    """Written by workers: what their engine can do at their start, and a heartbeat every few seconds."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self) -> Capabilities:
        """What can be asked for. Before any worker has ever started it says nothing but the version."""
        known = self._client.get(keys.CAPABILITIES)
        facts = Capabilities(engine_version=__version__) if known is None else Capabilities.model_validate_json(known)
        return facts.model_copy(update={"workers": self.workers()})

    def is_known(self) -> bool:
        """Whether a worker has recorded what it can do, and one that computes is alive."""
        return self.is_recorded() and any(worker.queues != [FETCH_QUEUE] for worker in self.workers())

    def is_recorded(self) -> bool:
        """Whether a worker has ever recorded what it can do."""
        return bool(self._client.exists(keys.CAPABILITIES))

    def write(self, facts: Capabilities) -> None:
        """What a worker's engine can do (without the workers)."""
        self._client.set(keys.CAPABILITIES, facts.model_copy(update={"workers": []}).model_dump_json())

    def beat(self, worker: WorkerFacts) -> None:
        """A worker says that it is alive, and what it is at."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.set(keys.worker(worker.id), worker.model_dump_json(), ex=ALIVE_S)
            pipe.sadd(keys.WORKERS, worker.id)
            pipe.execute()

    def leave(self, worker_id: str) -> None:
        """A worker ends as it should."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.delete(keys.worker(worker_id))
            pipe.srem(keys.WORKERS, worker_id)
            pipe.execute()

    def workers(self) -> list[WorkerFacts]:
        """The workers that are alive, by id."""
        ids = sorted(self._client.smembers(keys.WORKERS))
        if not ids:
            return []
        known = self._client.mget([keys.worker(worker_id) for worker_id in ids])
        silent = [worker_id for worker_id, facts in zip(ids, known, strict=True) if facts is None]
        if silent:
            self._client.srem(keys.WORKERS, *silent)
        return [WorkerFacts.model_validate_json(facts) for facts in known if facts is not None]

    def uploads_problem(self, queue: str) -> str | None:
        """Why no upload is opened for ``queue``: every worker that is alive lacks demanded walls. Else None."""
        workers = [worker for worker in self.workers() if queue in worker.queues]
        reasons = sorted({worker.refuses_uploads for worker in workers if worker.refuses_uploads is not None})
        refusing = sum(worker.refuses_uploads is not None for worker in workers)
        return "; ".join(reasons) if workers and refusing == len(workers) else None

    def queue_lengths(self) -> dict[str, int]:
        """Messages that wait in each queue."""
        with self._client.pipeline(transaction=False) as pipe:
            queues = (*QUEUES, FETCH_QUEUE)
            for queue in queues:
                pipe.llen(queue)
            return dict(zip(queues, map(int, pipe.execute()), strict=True))
