"""A real web server in a process of its own, for tests."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from worker.embedded_redis import EmbeddedRedis
from worker.settings import Settings
from worker.store import Store, open_store

TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = {**TUS, "Content-Type": "application/offset+octet-stream"}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def create(http, size, filename="model.pt", sha256=None, **headers):
    metadata = f"filename {b64(filename)}".strip() + (f",sha256 {b64(sha256)}" if sha256 else "")
    return http.post(
        "/api/v1/uploads", headers={**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata, **headers}
    )


def patch(http, url, offset, content, **headers):
    return http.patch(url, content=content, headers={**CHUNK, "Upload-Offset": str(offset), **headers})


def head(http, url):
    return http.head(url, headers=TUS)


@dataclass
class WebServer:
    url: str
    store: Store
    settings: Settings
    process: subprocess.Popen
    log: Path

    def http(self, token: str | None = None, **options) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, **options)

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def own_redis(folder: Path):
    """The bundled Redis server on a free port, as ``quant-lens up`` starts it; its URL."""
    server = EmbeddedRedis(folder / "redis", folder / "redis.log")
    server.start()
    try:
        server.wait()
        yield server.url
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def web_server(redis_url: str, data_dir: Path, **changes):
    """``quant-lens web`` on a free port until the block ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    settings = Settings(redis_url=redis_url, data_dir=data_dir, port=free_port(), **changes)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("QUANT_LENS_")}
    log = data_dir / "web.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "web"],
            env=environment | settings.environment() | {"OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = WebServer(f"http://127.0.0.1:{settings.port}", open_store(settings), settings, process, log)
    try:
        _wait_until_it_answers(server)
        yield server
    finally:
        server.store.close()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(server: WebServer) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"the web server ended at once:\n{server.log.read_text()}")
        try:
            if httpx.get(f"{server.url}/healthz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"the web server does not answer:\n{server.log.read_text()}")
