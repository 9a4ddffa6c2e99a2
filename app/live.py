"""Open pages follow what they show: a websocket tells each one that its run has a new version.

Only the version travels: ``live-version`` gets ``{"topic": "run:7f3a…", "version": "41"}``, and the page's ordinary
callbacks read the store and draw. So a page that polls (``assets/live.js``, where websockets are blocked or silent)
draws by the very same path, and every browser shows the store's truth.

The watching callback is asynchronous: it lives on the event loop and takes no worker thread, however many pages are
open. All of them share one reader (:class:`Watch`), which asks the store once per period for all topics together.
It ends when its connection does (Dash cancels it, at the server's shutdown too) and when its page no longer answers:
Dash's browsers share one websocket between tabs, so a closed tab does not close the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from dash import ClientsideFunction, Dash, Input, Output, dcc, html
from dash import ctx as callback_context
from dash.exceptions import PreventUpdate, WebsocketDisconnected

from quant_lens_engine.errors import InputError
from quant_lens_engine.schema import digest

if TYPE_CHECKING:
    from worker.store import Store

RUNS_TOPIC = "runs"
RUN_TOPIC = "run:"
GONE = "gone"

READ_PERIOD_S = 0.4
RUNS_PERIOD_S = 1.5
BEAT_S = 2.0
ANSWER_S = 20.0
RUNS_WATCHED = 100

log = logging.getLogger(__name__)


def live_layout() -> html.Div:
    """What the shell holds once, outside every page: the stores of the live line, and a quiet note when it breaks."""
    return html.Div(
        [
            dcc.Store(id="live-topic"),
            dcc.Store(id="live-version"),
            dcc.Store(id="live-beat"),
            html.Div(
                [html.Span(className="ql-live-dot"), html.Span(id="live-note-text")],
                id="live-note",
                className="ql-live-note",
                role="status",
                hidden=True,
            ),
        ]
    )


def register_live(app: Dash, store: Store) -> None:
    """Add the live callbacks to ``app``."""
    watch = Watch(VersionReader(store))

    async def follow() -> None:
        websocket = callback_context.websocket
        if websocket is None:  # no websockets in this browser: its page polls
            raise PreventUpdate
        await _follow_page(websocket, watch)

    app.callback(websocket=True, persistent=True)(follow)
    app.clientside_callback(
        ClientsideFunction("quantLensLive", "beat"), Output("live-note", "title"), Input("live-beat", "data")
    )


class VersionReader:
    """Topics to their present versions; a run that is not there has the version ``gone``.

    The table of runs costs a read of them all, so its version is at most a moment old.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs = ""
        self._runs_read_at = -math.inf

    def __call__(self, topics: Collection[str]) -> dict[str, str]:
        """One version for each topic."""
        return {topic: self._read(topic) for topic in topics}

    def _read(self, topic: str) -> str:
        if topic == RUNS_TOPIC:
            return self._read_runs()
        try:
            return str(self._store.runs.version(topic.removeprefix(RUN_TOPIC)))
        except InputError:
            return GONE

    def _read_runs(self) -> str:
        if time.monotonic() - self._runs_read_at > RUNS_PERIOD_S:
            page = self._store.runs.page(limit=RUNS_WATCHED)
            self._runs = digest([[run.id, run.version] for run in page.items] + [page.total])[:16]
            self._runs_read_at = time.monotonic()
        return self._runs


async def _follow_page(websocket: Any, watch: Watch) -> None:
    """Push every new version of what the page shows, and a beat that tells the page that the line is alive."""
    topic, seen, beat = None, None, 0
    while not websocket.is_shutdown:
        try:
            shown = await websocket.get_prop("live-topic", "data", timeout=ANSWER_S)
        except (TimeoutError, WebsocketDisconnected):
            return
        if shown != topic:
            topic, seen = shown, None
        well = True
        if not isinstance(topic, str):
            await asyncio.sleep(BEAT_S / 4)
        else:
            try:
                version = await watch.changed(topic, seen, timeout_s=BEAT_S / 2)
            except ConnectionError:
                well = False
                await asyncio.sleep(BEAT_S / 2)
            else:
                if version != seen:
                    seen = version
                    websocket.set_prop_sync("live-version", "data", {"topic": topic, "version": version})
        beat += 1
        websocket.set_prop_sync("live-beat", "data", {"count": beat, "well": well})


class Watch:
    """The one reader behind all open pages.

    Args:
        read: topics to their present versions; it may block and may fail, and runs in one thread at a time.
        period_s: pause between two reads. Nobody waiting: nothing is read.
    """

    def __init__(self, read: Callable[[Collection[str]], Mapping[str, str]], period_s: float = READ_PERIOD_S) -> None:
        self._read = read
        self._period_s = period_s
        self._waiting: Counter[str] = Counter()
        self._versions: dict[str, str] = {}
        self._reads = 0
        self._failed = False
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None

    async def changed(self, topic: str, seen: str | None, *, timeout_s: float) -> str | None:
        """The topic's version as soon as it is another than ``seen``; ``seen`` when time is up.

        Raises:
            ConnectionError: the store did not answer a read that ended meanwhile.
        """
        self._waiting[topic] += 1
        before = self._reads
        if seen is None:
            self._versions.pop(topic, None)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._keep_reading())
        try:
            async with self._news:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await self._news.wait_for(
                            lambda: self._failed_since(before) or self._versions.get(topic, seen) != seen
                        )
            if self._failed_since(before):
                raise ConnectionError("the store does not answer")
            return self._versions.get(topic, seen)
        finally:
            self._waiting[topic] -= 1
            self._waiting += Counter()  # drops what nobody waits for

    def _failed_since(self, reads: int) -> bool:
        return self._failed and self._reads > reads

    async def _keep_reading(self) -> None:
        while self._waiting:
            try:
                self._versions = dict(await asyncio.to_thread(self._read, list(self._waiting)))
                self._failed = False
            except Exception as error:  # whatever the store raises, the pages must go on being told
                if not self._failed:
                    log.warning("live pages: the store does not answer (%s)", type(error).__name__)
                self._failed = True
            self._reads += 1
            async with self._news:
                self._news.notify_all()
            await asyncio.sleep(self._period_s)
