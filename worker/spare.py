"""The engine process that waits for the next job of a worker, so that the job need not wait for the imports.

It is within its walls before it waits, has touched no upload, serves one job and ends with it: then another is started.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from worker.engine import Engine, EngineDied
from worker.settings import Settings

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 3.0, 300.0


class Spare:
    """At most one idle engine process.

    Args:
        settings: ``warm_engine`` says whether one is kept at all.
        folder: in which its own folder is made.
        looks_at_files: it is for inspections: what these may need is imported too, where it is installed.
    """

    def __init__(self, settings: Settings, folder: Path, *, looks_at_files: bool) -> None:
        self._settings = settings
        self._folder = folder
        self._looks_at_files = looks_at_files
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._is_over = False
        self._pause_s = _FIRST_PAUSE_S
        self._again_at: float | None = None

    def take(self) -> Engine:
        """A fresh engine process for one job, the idle one where there is one. Who takes it ends it."""
        with self._lock:
            engine, self._engine = self._engine, None
            self._again_at = None
        if engine is not None and not engine.is_alive():
            engine.end()
            engine = None
        if engine is None:
            return Engine(self._settings, self._folder)
        self._pause_s = _FIRST_PAUSE_S
        return engine

    def prepare(self) -> None:
        """Start the engine process of the next job."""
        with self._lock:
            if self._settings.warm_engine and self._engine is None and not self._is_over:
                self._start()

    def keep_up(self) -> None:
        """Replace an idle one that has died, after a pause that grows from one death to the next."""
        with self._lock:
            now = time.monotonic()
            if self._engine is not None and not self._engine.is_alive():
                log.warning("the idle engine process %d died; another one in %g s", self._engine.pid, self._pause_s)
                self._drop()
                self._again_at, self._pause_s = now + self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S)
            due = self._again_at is not None and now >= self._again_at
            if due and self._engine is None and self._settings.warm_engine and not self._is_over:
                self._start()

    @contextlib.contextmanager
    def asked(self) -> Iterator[Engine]:
        """The idle one, to be asked what it can do: this touches no upload, so that a job may still have it.

        After an error it is ended.
        """
        with self._lock:
            engine = self._engine = self._engine or Engine(self._settings, self._folder)
            try:
                yield engine
            except BaseException:
                self._drop()
                raise
            if self._settings.warm_engine and not self._is_over:
                self._look_ahead()
            else:
                self._drop()

    def end(self) -> None:
        """End it, and start none any more."""
        self._is_over = True
        with self._lock:
            self._drop()

    def _start(self) -> None:
        self._engine, self._again_at = Engine(self._settings, self._folder), None
        self._look_ahead()

    def _look_ahead(self) -> None:
        if self._looks_at_files and self._engine is not None:
            with contextlib.suppress(EngineDied):  # seen by keep_up
                self._engine.send({"op": "ahead"})

    def _drop(self) -> None:
        if self._engine is not None:
            self._engine.end()
            self._engine = None
