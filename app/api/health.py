"""Is it alive, is it ready, how is it doing: for supervisors and for Prometheus."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from redis.exceptions import RedisError

from app.api.access import SettingsOf, StoreOf
from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import Record
from quant_lens_engine.version import __version__
from worker.store import Store
from worker.store.capabilities import QUEUES


class Health(Record):
    """The process answers."""

    status: str = "ok"
    version: str = __version__


class Readiness(Record):
    """What the server needs to be of use; a part is "ok", or says what is wrong with it.

    ``uploads`` names the walls that are demanded (``QUANT_LENS_SANDBOX_MINIMUM``) and that no worker has: examples run
    all the same, so that the server is ready, and says "limited".
    """

    status: str = "ok"
    store: str = "ok"
    files: str = "ok"
    workers: str = "ok"
    uploads: str = "ok"


def health_router(registry: CollectorRegistry) -> APIRouter:
    """``/healthz``, ``/readyz`` and ``/metrics``."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> Health:
        """200 as long as the web process answers at all."""
        return Health()

    @router.get("/readyz", responses={503: {"model": Readiness}})
    def readyz(store: StoreOf, settings: SettingsOf, response: Response) -> Readiness:
        """200 when the store answers, files can be written, and a worker has said what it can do."""
        readiness = Readiness(files=_files_problem(settings.data_dir) or "ok", **_store_problems(store))
        if {readiness.store, readiness.files, readiness.workers} != {"ok"}:
            readiness.status, response.status_code = "not ready", 503
        elif readiness.uploads != "ok":
            readiness.status = "limited"
        return readiness

    @router.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Counts and times in Prometheus' text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _store_problems(store: Store) -> dict[str, str]:
    try:
        uploads = {"uploads": refused} if (refused := _uploads_problem(store)) else {}
        if store.capabilities.is_known():
            return uploads
        workers = store.capabilities.workers()
    except (QuantLensError, RedisError, OSError):
        return {"store": "does not answer", "workers": "unknown"}
    problems = sorted({problem for worker in workers for problem in worker.problems})
    waiting = "no worker has said what it can do yet" if workers else "no worker is alive"
    return {"workers": "; ".join(problems) or waiting, **uploads}


def _uploads_problem(store: Store) -> str | None:
    found = (store.capabilities.uploads_problem(queue) for queue in QUEUES)
    return next((f"no worker opens uploads: {problem}" for problem in found if problem), None)


def _files_problem(folder: Path) -> str | None:
    probe = folder / f".probe-{uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("xb") as file:
            file.write(b"ready?")
            os.fsync(file.fileno())
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    finally:
        probe.unlink(missing_ok=True)
    return None
