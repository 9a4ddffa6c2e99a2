"""A whole Quant Lens in processes of its own, and Chromium in front of it. Every page's console must stay silent."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect, sync_playwright

from tests.browser.proxy import Proxy
from tests.web_server import free_port

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
EXAMPLES = Path(__file__).parents[2] / "quant_lens_engine" / "intake" / "examples"
PATIENCE_MS = 120_000
"""For what a busy machine computes."""
expect.set_options(timeout=15_000)  # for what a page answers by itself


@dataclass
class QuantLens:
    """``quant-lens up`` on a free port."""

    url: str
    data_dir: Path
    process: subprocess.Popen[bytes]

    @property
    def shelf(self) -> Path:
        """A folder whose contents a run may name by path."""
        return self.data_dir / "shelf"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/api/v1", timeout=30)

    def submit(self, **changes) -> str:
        """A small run of the example MLP; its id. A second one like it takes its stages from the store: it is done at
        once."""
        spec = {
            "name": "small run", "model": {"example": "digits-mlp"}, "data": {"example": "digits", "limit": 64},
            "schemes": ["int8"], "analyses": {"preset": "quick"}, **changes,
        }  # fmt: skip
        with self.http() as http:
            answer = http.post("/runs", json=spec)
            assert answer.status_code == 201, answer.text
            return answer.json()["id"]

    def wait_for(self, run_id: str, *states: str, timeout_s: float = PATIENCE_MS / 1000) -> dict:
        deadline = time.monotonic() + timeout_s
        with self.http() as http:
            while (record := http.get(f"/runs/{run_id}").json())["state"] not in states:
                assert time.monotonic() < deadline, record
                time.sleep(0.2)
        return record


@contextmanager
def quant_lens(data_dir: Path, **settings: str):
    """``settings`` are variables of the environment beyond those that every test has."""
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("QUANT_LENS_")}
    environment |= {"QUANT_LENS_PORT": str(port), "QUANT_LENS_DATA_DIR": str(data_dir)}
    environment["QUANT_LENS_ALLOWED_PATHS"] = str(data_dir / "shelf")
    environment |= settings
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from app.cli import main; main()", "up"],
            env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    server = QuantLens(f"http://127.0.0.1:{port}", data_dir, process)
    try:
        wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until_ready(server: QuantLens) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{server.url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if server.process.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"quant-lens up did not get ready:\n{(server.data_dir / 'up.log').read_text()}")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with quant_lens(tmp_path_factory.mktemp("quant-lens")) as running:
        yield running


# Playwright keeps an event loop running in this thread: no longer than a module, for the sake of other tests.
@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.fail("there is no Chromium here: tests/browser/install_chromium.sh gets one")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


OF_THE_DRIVER = ("GL Driver Message", "GPU stall due to ReadPixels", "Canvas2D: Multiple readback operations")
"""What Chromium says of a surface that plotly reads back, drawn without a graphics card: hints on speed, no faults."""


def card(page: Page, title: str) -> Locator:
    """The card of a chart, by its title."""
    return page.locator(f'.chart-card[aria-label="{title}"]')


class Visitor:
    """One browser window; what its console complains about is kept."""

    def __init__(self, browser: Browser, base: str, **options) -> None:
        self.context: BrowserContext = browser.new_context(
            base_url=base, **{"viewport": {"width": 1440, "height": 900}, **options}
        )
        self.context.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.context.on("page", self._listen)
        self.page: Page = self.context.new_page()

    def _listen(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(words in message.text for words in OF_THE_DRIVER):
            self.complaints.append(f"{message.type}: {message.text}")


@pytest.fixture
def visit(browser, server):
    """``visit(path, expect_complaints=False, through=None, **context options)`` -> Page; the console is checked at
    the end of the test."""
    visitors: list[tuple[Visitor, bool]] = []

    def open_page(path: str, *, expect_complaints: bool = False, through: Proxy | None = None, **options) -> Page:
        visitor = Visitor(browser, (through or server).url, **options)
        visitors.append((visitor, expect_complaints))
        visitor.page.goto(path)
        return visitor.page

    yield open_page
    complaints = [line for visitor, expected in visitors if not expected for line in visitor.complaints]
    for visitor, _ in visitors:
        visitor.context.close()
    assert complaints == []


@pytest.fixture
def proxy(server):
    between = Proxy("127.0.0.1", server.port)
    yield between
    between.close()


@pytest.fixture(scope="session")
def digits_files(tmp_path_factory):
    """A checkpoint and data as a user has them: safetensors, and an npz of bytes with labels."""
    folder = tmp_path_factory.mktemp("digits")
    from sklearn.datasets import load_digits

    digits = load_digits()
    model, data = folder / "my_digits.safetensors", folder / "my_digits.npz"
    shutil.copy(EXAMPLES / "digits-mlp.safetensors", model)
    np.savez(data, x=(digits.images[1400:] * 15).astype(np.uint8), y=digits.target[1400:])
    return model, data


def choose_file(page: Page, kind: str, *paths: Path) -> None:
    """Through the button and the file chooser, as a user does."""
    with page.expect_file_chooser() as chooser:
        page.locator(f"#new-browse-{kind}").click()
    chooser.value.set_files([str(path) for path in paths])


def drop_files(page: Page, target: str, *paths: Path) -> None:
    """Drop files onto an element of the page."""
    handle = page.evaluate_handle("() => new DataTransfer()")
    for path in paths:
        content = list(path.read_bytes())
        page.evaluate(
            "([transfer, bytes, name]) => transfer.items.add(new File([new Uint8Array(bytes)], name))",
            [handle, content, path.name],
        )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event(target, event, {"dataTransfer": handle})


def wait_until(page: Page, is_so: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)


def screenshot(page: Page, name: str, *, full_page: bool = True) -> None:
    """A picture for the documents, where QUANT_LENS_SCREENSHOTS names a folder."""
    folder = os.environ.get("QUANT_LENS_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(600)
        page.mouse.move(0, 0)
        page.evaluate("window.scrollTo(0, 0)")  # else the bar at the top stands in the middle of a whole page
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=full_page)
