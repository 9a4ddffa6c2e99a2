"""``quant-lens up`` as people use it: started, interrupted, killed, started again."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from quant_lens_engine.schema import TERMINAL_STATES
from tests.integration.worker.conftest import PLUGINS, has_ended, long_spec, spec
from tests.web_server import free_port, own_redis

pytestmark = pytest.mark.integration

READY_WITHIN_S = 120
"""For the first start on a busy machine; the second one's own limit is 10 s on a quiet one."""


class Up:
    """One ``quant-lens up``."""

    def __init__(self, data_dir: Path, port: int, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("QUANT_LENS_")}
        settings = {
            "QUANT_LENS_DATA_DIR": str(data_dir),
            "QUANT_LENS_PORT": str(port),
            "QUANT_LENS_PLUGINS": str(PLUGINS),
            "QUANT_LENS_LEASE_S": "3",
        }
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up"], env={**clean, **settings, **environment},
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_until_ready(self) -> str:
        """Until the page answers and a worker is there; the line that was printed."""
        line: str = self.process.stderr.readline()
        assert "ready" in line, line + self.process.stderr.read()
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.is_ready():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return line

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def api(self) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/api/v1", timeout=30)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def part(self, words: str) -> psutil.Process:
        return next(child for child in self.family() if words in " ".join(child.cmdline()))

    def submit(self) -> str:
        with self.api() as api:
            answer = api.post("/runs", json=spec(**long_spec()).model_dump(mode="json"))
            assert answer.status_code == 201, answer.text
            return answer.json()["id"]

    def wait_for(self, run_id: str, until, timeout_s: float = 120) -> dict:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                with self.api() as api:
                    answer = api.get(f"/runs/{run_id}")
                if answer.status_code == 200 and until(answer.json()):
                    return answer.json()
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.1)


@contextmanager
def up(data_dir: Path, port: int | None = None, **environment: str):
    started = Up(data_dir, port or free_port(), **environment)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.terminate()
            started.process.wait(15)
        started.process.stderr.close()


def is_over(run: dict) -> bool:
    return run["state"] in TERMINAL_STATES


def is_under_way(run: dict) -> bool:
    return run["progress"]["stages_done"] >= 2


def test_ctrl_c_ends_it_before_it_is_ready(tmp_path):
    with up(tmp_path) as server:
        while len(server.family()) < 3:
            time.sleep(0.02)
        family = server.family()
        started = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0
        assert time.monotonic() - started < 5
        assert [process for process in family if not has_ended(process)] == []


def test_it_ends_within_five_seconds_and_goes_on_when_started_again(tmp_path):
    with up(tmp_path) as first:
        assert first.url in first.wait_until_ready()
        run_id = first.submit()
        before = first.wait_for(run_id, is_under_way)
        family = first.family()
        with first.api() as api, api.stream("GET", f"/runs/{run_id}/events") as watching:
            next(watching.iter_lines())  # somebody has the run open
            started = time.monotonic()
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(10) == 0
            assert time.monotonic() - started < 5
        assert [process for process in family if not has_ended(process)] == []
    with up(tmp_path) as second:
        second.wait_until_ready()
        run = second.wait_for(run_id, is_over)
        assert (run["state"], run["attempt"]) == ("DONE", 1)
        assert run["progress"]["stages_done"] > before["progress"]["stages_done"]


def test_kill_9_leaves_no_process_behind(tmp_path):
    with up(tmp_path) as server:
        server.wait_until_ready()
        server.wait_for(server.submit(), is_under_way)
        family = server.family()
        assert len(family) >= 5  # Redis, web, two workers, an engine
        server.process.kill()
        server.process.wait()
        psutil.wait_procs(family, timeout=3)
        assert [process for process in family if not has_ended(process)] == []


@pytest.mark.parametrize("words", ["valkey-server", "app.cli web", "worker runs"])
def test_a_part_that_dies_is_started_again_and_the_run_ends(tmp_path, words):
    with up(tmp_path) as server:
        server.wait_until_ready()
        run_id = server.submit()
        server.wait_for(run_id, is_under_way)
        server.part(words).kill()
        run = server.wait_for(run_id, is_over)
        assert run["state"] == "DONE"
        deadline = time.monotonic() + 30
        while not server.is_ready():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.part(words).is_running()


def test_two_on_one_data_folder_is_a_clear_error(tmp_path):
    with up(tmp_path) as first:
        first.process.stderr.readline()
        with up(tmp_path) as second:
            assert second.process.wait(30) == 2
            message = second.process.stderr.read()
        assert "data_dir_in_use" in message
        assert str(first.process.pid) in message
        assert first.process.poll() is None


def test_a_stale_lock_locks_nobody_out(tmp_path):
    (tmp_path / "up.lock").write_text("1")
    with up(tmp_path) as server:
        assert "ready" in server.process.stderr.readline()


def test_a_taken_port_is_a_clear_error(tmp_path):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with up(tmp_path, other.getsockname()[1]) as server:
            assert server.process.wait(30) == 2
            assert "port_taken" in server.process.stderr.read()


def test_a_given_redis_is_used_instead(tmp_path):
    with own_redis(tmp_path / "theirs") as url, up(tmp_path / "data", QUANT_LENS_REDIS_URL=url) as server:
        server.wait_until_ready()
        assert not any("valkey-server" in " ".join(process.cmdline()) for process in server.family())
        assert redis.Redis.from_url(url).exists("quant_lens:capabilities")


def test_the_embedded_redis_asks_for_its_password(tmp_path):
    with up(tmp_path) as server:
        server.wait_until_ready()
        address = (tmp_path / "redis" / "address").read_text()
        port = int(address.rpartition(":")[2].partition("/")[0])
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        assert redis.Redis.from_url(address).ping()
        password = address.partition("://:")[2].partition("@")[0]
        arguments = [" ".join(process.cmdline()) for process in server.family()]
        assert not any(password in line for line in arguments)
    assert not (tmp_path / "redis" / "address").exists()


def test_a_given_redis_that_is_not_there_is_a_clear_error(tmp_path):
    with up(tmp_path, QUANT_LENS_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0") as server:
        assert server.process.wait(60) == 3
        assert "store_unavailable" in server.process.stderr.read()
