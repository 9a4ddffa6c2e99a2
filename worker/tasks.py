"""The Celery tasks: thin. What is to be done is read from the store, never from the message."""

from __future__ import annotations

from celery import Celery

from worker.hub.fetch import fetch_model
from worker.questions import Check, Inspection
from worker.queue import CHECK_TASK, FETCH_TASK, INSPECT_TASK, RUN_TASK
from worker.share import RunShare
from worker.small_job import work_on
from worker.station import Station


def add_tasks(app: Celery, station: Station) -> None:
    """Bind the tasks to this process' station."""

    @app.task(name=RUN_TASK)  # type: ignore[untyped-decorator]  # Celery has no types
    def run(run_id: str) -> None:
        RunShare(station, run_id).work()

    @app.task(name=INSPECT_TASK)  # type: ignore[untyped-decorator]
    def inspect(sha256: str) -> None:
        work_on(station, Inspection(sha256))

    @app.task(name=CHECK_TASK)  # type: ignore[untyped-decorator]
    def check(key: str) -> None:
        work_on(station, Check(key))

    @app.task(name=FETCH_TASK)  # type: ignore[untyped-decorator]
    def fetch(key: str) -> None:
        fetch_model(station, key)
