"""``quant-lens up`` on a free port, with a data folder of its own: what benchmarks of the server use."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
_READY_S = 300.0
_ENDS_S = 60.0


@dataclass(frozen=True)
class RunningServer:
    """Its address, and the process that keeps its parts up."""

    url: str
    process: psutil.Process

    def part(self, *words: str) -> psutil.Process:
        """The part whose command line ends with ``words``; waited for where it is being started again."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            for child in self.process.children():
                with contextlib.suppress(psutil.Error):
                    if child.cmdline()[-len(words) :] == list(words):
                        return child
            time.sleep(0.02)
        raise RuntimeError(f"there is no process {' '.join(words)}")

    @property
    def web(self) -> psutil.Process:
        """The web server."""
        return self.part("web")

    def idle_engine(self, seen: set[int], settled_s: float = 2.0) -> psutil.Process:
        """The engine process that waits for the next upload, once it is none of ``seen`` and has nothing more to do."""
        inspector = self.part("worker", "inspect")
        quiet_since, before = time.monotonic(), -1.0
        while True:
            found = [child for child in inspector.children(recursive=True) if child.pid not in seen]
            with contextlib.suppress(psutil.Error):
                spent = sum(sum(child.cpu_times()[:2]) for child in found)
                if not found or spent > before + 0.02:
                    quiet_since, before = time.monotonic(), spent
                elif time.monotonic() - quiet_since > settled_s:
                    return max(found, key=lambda child: child.memory_info().rss)
            time.sleep(0.1)


@contextlib.contextmanager
def running_server(data_dir: Path, **settings: str) -> Iterator[RunningServer]:
    """The server until the block ends; ``settings`` without their prefix, such as ``QUOTA_BYTES="1000"``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {key: value for key, value in os.environ.items() if not key.startswith("QUANT_LENS_")}
    env |= {f"QUANT_LENS_{name}": value for name, value in settings.items()}
    env |= {"QUANT_LENS_PORT": str(port), "QUANT_LENS_DATA_DIR": str(data_dir)}
    process = subprocess.Popen([sys.executable, "-c", "from app.cli import main; main()", "up"], env=env)
    server = RunningServer(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
    try:
        _wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_ENDS_S)


def _wait_until_ready(server: RunningServer) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/readyz", timeout=2).status_code == 200:
                return
        time.sleep(0.2)
    raise RuntimeError("quant-lens up did not get ready")
