"""What happened to a run, in order: read from any point, or followed while it happens."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError

from quant_lens_engine.errors import InputError
from quant_lens_engine.schema import TERMINAL_STATES, RunEvent
from worker.store import keys
from worker.store.clock import iso
from worker.store.connection import Client, connect_async
from worker.store.errors import NotFound, StoreUnavailable

_EVENT_ID = re.compile(r"\d{1,20}(-\d{1,20})?")
_BLOCK_MS = 5000


class Events:
    """The events of runs. At most about 2000 are kept a run: the record is the truth, events are the news."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url

    def read(self, run_id: str, after: str = "0", limit: int = 500) -> list[RunEvent]:
        """Events later than ``after`` (an event's id; ``"0"`` for all).

        Raises:
            NotFound: there is no such run.
            InputError: ``bad_event_id``.
        """
        found = self._client.xrange(keys.events(run_id), min=f"({_checked(after)}", count=limit)
        if not found and not self._client.exists(keys.run(run_id)):
            raise _no_run(run_id)
        return [_event(event_id, fields) for event_id, fields in found]

    async def follow(self, run_id: str, after: str = "0") -> AsyncIterator[RunEvent]:
        """Events later than ``after``, past ones first, then each as it happens; ends when the run has ended.

        Raises:
            NotFound: there is no such run, or it was deleted meanwhile.
            StoreUnavailable: Redis went away; follow again from the last event seen.
        """
        last = _checked(after)
        client = connect_async(self._url)
        try:
            while True:
                answer = await client.xread({keys.events(run_id): last}, count=200, block=_BLOCK_MS)
                events = [_event(event_id, fields) for _, found in answer or [] for event_id, fields in found]
                for event in events:
                    last = event.id
                    yield event
                if not events and await self._has_ended(client, run_id):
                    return
                if events and events[-1].kind == "state" and events[-1].data.get("state") in TERMINAL_STATES:
                    return
        except (RedisConnectionError, TimeoutError) as error:
            raise StoreUnavailable("the store does not answer", hint="follow again from the last event") from error
        finally:
            await client.aclose()

    @staticmethod
    async def _has_ended(client: Client, run_id: str) -> bool:
        state = await client.hget(keys.run(run_id), "state")
        if state is None:
            raise _no_run(run_id)
        return state in TERMINAL_STATES


def _checked(event_id: str) -> str:
    if not _EVENT_ID.fullmatch(event_id):
        raise InputError(f"{event_id[:40]!r} is not an event's id", hint="begin with 0", code="bad_event_id")
    return event_id


def _event(event_id: str, fields: Mapping[str, str]) -> RunEvent:
    milliseconds = int(event_id.partition("-")[0])
    return RunEvent(
        id=event_id,
        kind=fields["kind"],
        at=iso(milliseconds / 1000) or "",
        data=json.loads(fields["data"]),
    )


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"there is no run {run_id[:40]!r}", hint="it may have been deleted")
