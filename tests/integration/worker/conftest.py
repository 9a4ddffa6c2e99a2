"""A real Redis-compatible server and real workers, each in a process of its own, that tests may kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from app.client import Client
from quant_lens_engine.schema import TERMINAL_STATES, RunSpec, StageKey
from tests.web_server import web_server
from worker import queue
from worker.embedded_redis import EmbeddedRedis
from worker.settings import Settings
from worker.store import open_store

PLUGINS = Path(__file__).parent / "plugins"
LEASE_S = 3.0


class House:
    """Redis, a store, and as many workers as a test starts."""

    def __init__(self, folder: Path, **changes) -> None:
        self.folder = folder
        self.redis = EmbeddedRedis(folder / "redis", folder / "redis.log")
        self.redis.start()
        self.redis.wait()
        self.settings = Settings(
            data_dir=folder, redis_url=self.redis.url, lease_s=LEASE_S, memory_limit_bytes=2**31,
            **{"plugins": PLUGINS, **changes},
        )  # fmt: skip
        self.store = open_store(self.settings)
        self.workers: list[subprocess.Popen] = []

    def start_worker(self, *queues: str) -> subprocess.Popen:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("QUANT_LENS_")}
        with (self.folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "worker", *queues],
                env=environment | self.settings.environment(), stdout=log, stderr=log,
            )  # fmt: skip
        self.workers.append(worker)
        return worker

    def submit(self, **changes) -> str:
        return queue.submit(self.store, spec(**changes), "local").id

    def wait(self, run_id: str, *, until=lambda run: run.state in TERMINAL_STATES, timeout_s: float = 120):
        deadline = time.monotonic() + timeout_s
        while not until(run := self.store.runs.get(run_id)):
            assert time.monotonic() < deadline, f"{run}\n{self.log()}"
            time.sleep(0.05)
        return run

    def wait_for_workers(self, count: int, timeout_s: float = 120) -> None:
        """Until so many are there: the first of them could finish a run while the others are still starting."""
        deadline = time.monotonic() + timeout_s
        while len(self.store.capabilities.workers()) < count:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def wait_for_stages(self, run_id: str, count: int):
        """Until so many stages are finished, and one more is being worked on."""

        def is_there(run) -> bool:
            assert run.state not in TERMINAL_STATES, "the run was over before the test could disturb it"
            return run.progress.stages_done >= count and any(stage.state == "running" for stage in run.progress.stages)

        return self.wait(run_id, until=is_there)

    def endings(self, run_id: str) -> list[str]:
        states = [event.data["state"] for event in self.store.events.read(run_id) if event.kind == "state"]
        return [state for state in states if state in TERMINAL_STATES]

    def commits(self, run_id: str) -> list[str]:
        """Every stage that was settled, once for each time."""
        return [
            str(StageKey(event.data["stage"], event.data["variant"], event.data["part"]))
            for event in self.store.events.read(run_id)
            if event.kind == "stage"
        ]

    def log(self) -> str:
        path = self.folder / "worker.log"
        return path.read_text()[-6000:] if path.exists() else ""

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()
        self.store.close()
        self.redis.stop()


def spec(**changes) -> RunSpec:
    """A small real run: the example MLP on a few rows."""
    return RunSpec.model_validate(
        {
            "model": {"example": "digits-mlp", "architecture": "digits-mlp"},
            "data": {"example": "digits", "limit": 128},
            "schemes": ["int8", "int4"],
            "analyses": {"preset": "quick", "line": {"steps": 5}, "plane": {"steps": 5}},
            **changes,
        }
    )


def long_spec(**changes) -> dict:
    """Changes that make a run of a dozen stages which is not over before a test has done its worst to it.

    Its architecture waits in each forward pass, so that this does not depend on how fast the engine is.
    """
    return {
        "model": {"example": "digits-mlp", "architecture": "slow"},
        "schemes": ["int8", "int4"],
        "analyses": {"preset": "quick", "line": {"steps": 31}, "plane": {"steps": 0}},
        **changes,
    }


def engines_of(worker: subprocess.Popen) -> list[psutil.Process]:
    """The engine processes that a worker has started."""
    found = []
    for child in psutil.Process(worker.pid).children():
        with contextlib.suppress(psutil.Error):  # it ends this very moment
            if "worker.engine_process" in child.cmdline():
                found.append(child)
    return found


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def house(tmp_path):
    opened = House(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory):
    """One worker of each queue for all tests of a module that do them no harm."""
    opened = House(tmp_path_factory.mktemp("house"))
    opened.start_worker("runs")
    opened.start_worker("inspect")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(shared_house):
    """The Python client of a web server in front of these workers: the whole way that an upload takes."""
    with web_server(shared_house.redis.url, shared_house.folder) as server, Client(server.url) as opened:
        yield opened


def upload_and_look(client, path):
    """What the server says of a file."""
    record = client.inspection(client.upload(path).sha256)
    assert record.inspection_state in ("done", "failed")
    return record
