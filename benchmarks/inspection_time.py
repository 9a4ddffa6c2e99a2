"""From the end of an upload to what is in it: ``python -m benchmarks.inspection_time``.

A server on this machine gets 500 MB of safetensors twice over: a BERT of transformers (folder, zipped) and a stack of
linear layers. Each is sent by tus through the API, and each through the New page in headless Chromium. The clock
starts when the answer to the last PATCH is there, and stops when ``GET /files/{sha256}`` says ``done``, or when the
page shows what was found. The same with ``QUANT_LENS_WARM_ENGINE=0`` says what the idle process saves. Wall clock is
as good as the machine is quiet; the processor time of the engine process, from the upload's end, is not disturbed by
others. ``--turns N``: how many files of each kind. Writes ``benchmarks/results/inspection-time.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import torch
from playwright.sync_api import Page, sync_playwright
from safetensors.torch import save_file

from app.client import Client
from benchmarks.running_server import CHROMIUM, FLAGS, RunningServer, running_server

_LAYERS, _WIDTH = 14, 2988
_RESULT = Path(__file__).parent / "results" / "inspection-time.md"
_PATIENCE_S = 240.0


def bert(folder: Path, seed: int) -> Path:
    """A BERT of 124 million weights as ``save_pretrained`` leaves it, zipped without compression."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(seed)
    model = folder / "bert"
    BertForMaskedLM(BertConfig(num_hidden_layers=14)).save_pretrained(model)
    path = folder / f"bert-{seed}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(model.iterdir()):
            archive.write(file, file.name)
    return path


def linear_layers(folder: Path, seed: int) -> Path:
    """A state dict of an ``nn.Sequential`` of 125 million weights."""
    torch.manual_seed(seed)
    state = {f"{2 * place}.weight": torch.randn(_WIDTH, _WIDTH) for place in range(_LAYERS)}
    path = folder / f"layers-{seed}.safetensors"
    save_file(state, path)
    return path


FILES: dict[str, tuple[Callable[[Path, int], Path], str]] = {
    "BERT, zipped folder": (bert, "BertForMaskedLM"),
    "linear layers, safetensors": (linear_layers, "mlp"),
}


def by_api(server: RunningServer, path: Path, architecture: str) -> float:
    """Seconds until the API has it."""
    with Client(server.url) as client:
        sha256 = client.upload(path).sha256
        began = time.monotonic()
        with httpx.Client(base_url=server.url) as http:
            while (record := http.get(f"/api/v1/files/{sha256}").json())["inspection_state"] in {"waiting", "running"}:
                time.sleep(0.02)
    elapsed_s = time.monotonic() - began
    assert record["inspection_state"] == "done", record
    assert any(one["fits"] and one["architecture"] == architecture for one in record["inspection"]["architectures"])
    return elapsed_s


def on_the_page(page: Page, path: Path, _: str) -> float:
    """Seconds until the New page shows what is in it, by the page's own clock."""
    page.goto("/new")
    page.wait_for_selector("#new-browse-model")
    page.evaluate(_WATCH)
    with page.expect_file_chooser() as chooser:
        page.locator("#new-browse-model").click()
    chooser.value.set_files(str(path))
    page.wait_for_function("() => window.seen.shown !== null", timeout=_PATIENCE_S * 1000)
    seen = page.evaluate("() => window.seen")
    return float(seen["shown"] - seen["sent"]) / 1000


_WATCH = """() => {
  window.seen = { sent: null, shown: null };
  const open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (method, ...rest) {
    if (method === "PATCH") this.addEventListener("load", () => { window.seen.sent = performance.now(); });
    return open.call(this, method, ...rest);
  };
  new MutationObserver(() => {
    const card = document.querySelector("#new-card-model");
    if (window.seen.sent !== null && card && card.textContent.includes("Parameters")) {
      window.seen.shown ??= performance.now();
    }
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


@contextlib.contextmanager
def browser_page(server: RunningServer) -> Iterator[Page]:
    """A page of headless Chromium."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_context(base_url=server.url).new_page()
        yield page
        chromium.close()


class Spent:
    """Processor time of the worker's engine processes while a block lasts, looked at fifty times a second."""

    def __init__(self, inspector: psutil.Process) -> None:
        self._inspector = inspector
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._is_over = threading.Event()
        self._looking = threading.Thread(target=self._look)

    def __enter__(self) -> Spent:
        """Begin; what a process has spent so far does not count."""
        self._first = dict(self._now())
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        """No more."""
        self._is_over.set()
        self._looking.join()

    @property
    def seconds(self) -> float:
        """Of the process that did the work: where one waited, that one."""
        served = [pid for pid in self._last if pid in self._first] or list(self._last)
        return max(self._last[pid] - self._first.get(pid, 0.0) for pid in served)

    def _look(self) -> None:
        while not self._is_over.wait(0.02):
            self._last |= dict(self._now())

    def _now(self) -> list[tuple[int, float]]:
        found = []
        for child in self._inspector.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found.append((child.pid, sum(child.cpu_times()[:2])))
        return found


def measure(folder: Path, warm: bool, turns: int) -> tuple[list[str], list[float]]:
    """Rows of the table, and resident memory of the idle engine process in MiB each time."""
    rows, memory = [], []
    kind = "idle process kept" if warm else "process started for the file"
    seed = 0
    with running_server(folder / f"data-{warm}", WARM_ENGINE=str(int(warm))) as server, browser_page(server) as page:
        for what, (make, architecture) in FILES.items():
            for where in ("API", "page") if warm else ("API",):
                found, processor = [], []
                for _ in range(turns):
                    seed += 1
                    path = make(folder, seed)
                    if warm:
                        memory.append(server.idle_engine(set()).memory_info().rss / 2**20)
                    else:
                        time.sleep(2)
                    ask = by_api if where == "API" else on_the_page
                    with Spent(server.part("worker", "inspect")) as spent:
                        found.append(ask(server if where == "API" else page, path, architecture))
                    processor.append(spent.seconds)
                    size = path.stat().st_size / 1e6
                    path.unlink()
                    print(what, where, kind, found[-1], processor[-1], os.getloadavg(), flush=True)
                rows.append(
                    f"| {what}, {size:.0f} MB | {where} | {kind} | {statistics.median(found):.2f} s "
                    f"| {min(found):.2f} – {max(found):.2f} s | {statistics.median(processor):.2f} s |"
                )
    return rows, memory


def run(turns: int) -> None:
    """Measure and write down."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        warm, memory = measure(Path(name), True, turns)
        cold, _ = measure(Path(name), False, 1)
    text = "\n".join(
        (
            f"From the answer to the last PATCH to the inspection. {turns} files each with an idle process, one each "
            f"without. Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, load "
            f"{load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end. The idle process had "
            f"{min(memory):.0f} to {max(memory):.0f} MiB of resident memory.",
            "",
            "| file | seen by | | median | from – to | processor time |",
            "|---|---|---|---:|---:|---:|",
            *warm,
            *cold,
            "",
        )
    )
    _RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    run(parser.parse_args().turns)
