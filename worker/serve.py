"""A worker as a process: Celery's consumer around a station, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from celery.signals import worker_ready, worker_shutdown, worker_shutting_down

from quant_lens_engine.errors import InputError
from worker.celery_app import celery_app
from worker.settings import Settings, get_settings
from worker.station import Station
from worker.store.capabilities import FETCH_QUEUE
from worker.tasks import add_tasks


def run_worker(queues: Sequence[str], settings: Settings | None = None) -> int:
    """Serve these queues (``runs``, ``inspect``, ``fetch``) until SIGTERM or Ctrl-C; the exit code.

    SIGTERM ends the engine process at once; what was claimed is given back and goes on elsewhere, or after a restart.

    Raises:
        InputError: ``mixed_queues``: ``fetch`` beside another.
    """
    if FETCH_QUEUE in queues and set(queues) != {FETCH_QUEUE}:
        raise InputError(
            "the worker that fetches from the hub does nothing else: it has the hub's token, and opens no file",
            hint="start two: quant-lens worker --queue fetch, and quant-lens worker",
            code="mixed_queues",
        )
    settings = settings or get_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = celery_app(settings)
    station = Station(settings, queues)
    add_tasks(app, station)

    def stop(**_: Any) -> None:
        station.stopping.set()

    def leave(**_: Any) -> None:
        station.close()

    def begin(**_: Any) -> None:
        station.open()

    worker_ready.connect(begin, weak=False)
    worker_shutting_down.connect(stop, weak=False)
    worker_shutdown.connect(leave, weak=False)
    worker = app.Worker(
        hostname=f"{queues[0]}-{os.getpid()}@%h",
        queues=list(queues),
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
