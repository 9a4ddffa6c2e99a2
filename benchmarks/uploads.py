"""Uploads under load: ``python -m benchmarks.uploads``.

One: 2 GB of safetensors through the New page in headless Chromium; in the middle the web process is killed (SIGKILL, by
its process id) and ``quant-lens up`` starts another. The page goes on by itself; what it sends is counted in the page.
Two: 20 uploads at once of 100 MB each through the API, in chunks of 8 MB and each in one request; the web process'
resident memory is sampled all the while. Writes ``benchmarks/results/uploads.md``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright

from benchmarks.running_server import CHROMIUM, FLAGS, RunningServer, running_server

SIZE, AT_ONCE, EACH = 2_000_000_000, 20, 100_000_000
CHUNK = 8 << 20
_RESULT = Path(__file__).parent / "results" / "uploads.md"
_PATIENCE_S = 900.0
_TUS = {"Tus-Resumable": "1.0.0"}
_COUNT = """() => {
  window.bodies = 0;
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (body) {
    let known = 0;
    if (body) this.upload.addEventListener("progress", (event) => {
      window.bodies += event.loaded - known; known = event.loaded;
    });
    return send.call(this, body);
  };
}"""


def safetensors_file(path: Path, size: int) -> str:
    """One matrix of random float32 of about ``size`` bytes; its SHA-256."""
    rows, columns = size // (4 * 20_000), 20_000
    layout = {"0.weight": {"dtype": "F32", "shape": [rows, columns], "data_offsets": [0, rows * columns * 4]}}
    header = json.dumps(layout).encode()
    row = np.random.default_rng(0).standard_normal(columns, dtype=np.float32).tobytes()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _ in range(rows):
            file.write(row)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_size(data_dir: Path) -> int:
    """Bytes of the one unfinished upload."""
    return sum(part.stat().st_size for part in (data_dir / "uploads").glob("*.part"))


def killed_in_the_middle(server: RunningServer, page: Page, path: Path, sha256: str, data_dir: Path) -> list[str]:
    """Upload by the page, kill the web process at two fifths; what happened, as rows of a table."""
    size = path.stat().st_size
    page.goto("/new")
    page.wait_for_selector("#new-browse-model")
    page.evaluate(_COUNT)
    began = time.monotonic()
    with page.expect_file_chooser() as chooser:
        page.locator("#new-browse-model").click()
    chooser.value.set_files(str(path))
    while part_size(data_dir) < 0.4 * size:
        page.wait_for_timeout(20)
    victim = server.web
    victim.kill()
    killed_at, had = time.monotonic(), part_size(data_dir)
    while part_size(data_dir) <= had:
        page.wait_for_timeout(20)
    again_s = time.monotonic() - killed_at
    page.locator("#new-card-model").get_by_text(path.name).wait_for(timeout=_PATIENCE_S * 1000)
    elapsed_s = time.monotonic() - began
    sent = page.evaluate("() => window.bodies")
    record = httpx.get(f"{server.url}/api/v1/files/{sha256}").json()
    assert record["size_bytes"] == size, record
    assert server.web.pid != victim.pid
    return [
        f"| file | {size / 1e9:.2f} GB |",
        f"| on the server's disk when its web process {victim.pid} was killed | {had / 1e9:.3f} GB |",
        f"| from the kill to the next byte on disk (process {server.web.pid}) | {again_s:.1f} s |",
        f"| sent by the page in all | {sent / 1e9:.3f} GB |",
        f"| from the choice of the file to its card | {elapsed_s:.0f} s |",
        "| SHA-256 in the store | the file's own |",
    ]


def blocks(seed: int, size: int) -> Iterator[bytes]:
    """``size`` bytes in chunks, other ones for each seed."""
    block = np.random.default_rng(seed).bytes(CHUNK)
    for place in range(0, size, CHUNK):
        yield block[: min(CHUNK, size - place)]


def upload(url: str, seed: int, in_chunks: bool) -> None:
    """One upload, whose hash is compared."""
    digest = hashlib.sha256()
    for block in blocks(seed, EACH):
        digest.update(block)
    name = base64.b64encode(f"load-{seed}.bin".encode()).decode()
    with httpx.Client(base_url=url, timeout=300) as http:
        headers = {**_TUS, "Upload-Length": str(EACH), "Upload-Metadata": f"filename {name}"}
        place = http.post("/api/v1/uploads", headers=headers).headers["Location"]
        chunk = {**_TUS, "Content-Type": "application/offset+octet-stream"}
        if in_chunks:
            offset = 0
            for block in blocks(seed, EACH):
                answer = http.patch(place, content=block, headers=chunk | {"Upload-Offset": str(offset)})
                offset += len(block)
        else:
            sizes = {"Upload-Offset": "0", "Content-Length": str(EACH)}
            answer = http.patch(place, content=blocks(seed, EACH), headers=chunk | sizes)
    assert answer.headers["Quant-Lens-Sha256"] == digest.hexdigest(), answer.text


def at_once(server: RunningServer, first_seed: int, in_chunks: bool) -> str:
    """A row: memory before, the most of it, time, the slowest answer of ``/healthz`` meanwhile."""
    web = psutil.Process(server.web.pid)
    before = peak = web.memory_info().rss
    slowest = 0.0
    is_over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(0.02):
            peak = max(peak, web.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sent = [pool.submit(upload, server.url, first_seed + number, in_chunks) for number in range(AT_ONCE)]
        while not all(one.done() for one in sent):
            asked = time.monotonic()
            httpx.get(f"{server.url}/healthz", timeout=60)
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.1)
    elapsed_s = time.monotonic() - began
    is_over.set()
    watcher.join()
    for one in sent:
        one.result()
    how = f"chunks of {CHUNK >> 20} MiB" if in_chunks else "one request each"
    return (
        f"| {AT_ONCE} × {EACH / 1e6:.0f} MB, {how} | {before / 1e6:.0f} MB | {peak / 1e6:.0f} MB | {elapsed_s:.0f} s "
        f"| {slowest * 1000:.0f} ms |"
    )


def run() -> None:
    """Measure and write down."""
    with tempfile.TemporaryDirectory() as name:
        folder, data_dir = Path(name), Path(name, "data")
        path = folder / "large.safetensors"
        sha256 = safetensors_file(path, SIZE)
        with running_server(data_dir) as server, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = chromium.new_context(base_url=server.url).new_page()
            killed = killed_in_the_middle(server, page, path, sha256, data_dir)
            chromium.close()
            print(*killed, sep="\n", flush=True)
            load = [at_once(server, 1, in_chunks=True), at_once(server, 1 + AT_ONCE, in_chunks=False)]
    text = "\n".join(
        (
            f"Server, browser and clients on one machine: Python {platform.python_version()}, {os.cpu_count()} cores, "
            f"load {os.getloadavg()[0]:.1f}.",
            "",
            "The web process killed in the middle of an upload by the page:",
            "",
            "| | |",
            "|---|---:|",
            *killed,
            "",
            "Uploads at once through the API, resident memory of the web process:",
            "",
            "| | before | most | took | slowest `/healthz` |",
            "|---|---:|---:|---:|---:|",
            *load,
            "",
        )
    )
    _RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    run()
