"""What happens to a run, as server-sent events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.access import StoreOf
from quant_lens_engine.schema import TERMINAL_STATES
from worker.store import NotFound, Store, StoreUnavailable

router = APIRouter(prefix="/runs/{run_id}", tags=["events"])

_RECONNECT_MS = 1000
_PING_S = 15


@router.get("/events", response_class=EventSourceResponse)
async def follow_run(run_id: str, store: StoreOf, last_event_id: Annotated[str, Header()] = "0") -> Response:
    """Every event from the first (or from after `Last-Event-ID`) until the run has ended; each `data` is a RunEvent.

    204 tells that nothing more will come: the run has ended and `Last-Event-ID` was its last event.
    """
    record = await run_in_threadpool(store.runs.get, run_id)
    is_more = await run_in_threadpool(store.events.read, run_id, last_event_id, 1)
    if record.state in TERMINAL_STATES and not is_more:
        return Response(status_code=204)
    return EventSourceResponse(_stream(store, run_id, last_event_id), ping=_PING_S)


async def _stream(store: Store, run_id: str, after: str) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(comment="the run's events follow", retry=_RECONNECT_MS)
    # Where the store goes away or the run is deleted the stream ends, and the client asks again from its last event.
    with contextlib.suppress(StoreUnavailable, NotFound):
        async for event in store.events.follow(run_id, after):
            yield ServerSentEvent(data=event.model_dump_json(), event=event.kind, id=event.id)
