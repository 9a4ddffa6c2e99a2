"""Open pages follow the run: two at once, without websockets, over a restart of the web server, after a cancel."""

from __future__ import annotations

import os
import re
import signal
import time

import psutil
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE_MS, Visitor, quant_lens, wait_until_ready

pytestmark = pytest.mark.browser

LONG = {
    "model": {"example": "digits-cnn"}, "data": {"example": "digits"}, "schemes": ["int8", "int4", "int3", "int2"],
    "analyses": {"preset": "thorough"},
}  # fmt: skip


@pytest.fixture
def long_run(server):
    run_id = server.submit(name="long", seed=time.time_ns() % 10**9, **LONG)
    server.wait_for(run_id, "RUNNING")
    yield run_id
    with server.http() as http:
        http.post(f"/runs/{run_id}/cancel")


def _percent(page) -> int:
    return int(page.locator(".progress").first.get_attribute("aria-valuenow"))


def test_two_browsers_see_the_same_and_a_cancel_reaches_both(visit, server, long_run):
    first, second = visit(f"/runs/{long_run}"), visit(f"/runs/{long_run}")
    for page in (first, second):
        expect(page.locator(".ql-cell.running")).to_have_count(1, timeout=PATIENCE_MS)
        expect(page.locator("html")).to_have_attribute("data-live", "websocket", timeout=20_000)
    for ahead, behind in ((first, second), (second, first)):
        behind.wait_for_function(
            "percent => Number(document.querySelector('.progress').ariaValueNow) >= percent", arg=_percent(ahead)
        )

    first.get_by_role("button", name="Cancel").click()
    for page in (first, second):
        expect(page.locator(".state-pill.cancelled")).to_be_visible(timeout=5_000)
        expect(page.get_by_role("button", name="Retry")).to_be_visible()
    assert first.locator(".ql-strip").inner_text() == second.locator(".ql-strip").inner_text()
    assert first.locator(".ql-variants").inner_text() == second.locator(".ql-variants").inner_text()
    assert server.wait_for(long_run, "CANCELLED")["state"] == "CANCELLED"

    first.get_by_role("button", name="Retry").click()
    first.wait_for_url(re.compile(rf"/runs/(?!{long_run})\w+$"))
    expect(first.locator(".facts")).to_contain_text(f"retry of {long_run}")
    with server.http() as http:
        http.post(f"/runs/{first.url.rpartition('/')[2]}/cancel")


def test_where_websockets_are_refused_the_page_polls(visit, proxy, long_run):
    proxy.refuses_websockets = True
    page = visit(f"/runs/{long_run}", through=proxy, expect_complaints=True)  # the browser reports the refused socket
    expect(page.locator("html")).to_have_attribute("data-live", "polling", timeout=15_000)
    expect(page.locator(".ql-cell.running")).to_have_count(1, timeout=PATIENCE_MS)
    before = page.locator(".ql-stage-card").inner_text()
    expect(page.locator(".ql-stage-card")).not_to_have_text(before, timeout=PATIENCE_MS)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state-pill.cancelled")).to_be_visible(timeout=15_000)
    expect(page.locator("#live-note")).to_be_hidden()


def test_a_page_survives_the_restart_of_the_web_server(visit, server, long_run):
    page = visit(f"/runs/{long_run}", expect_complaints=True)  # the browser reports that nobody answered
    expect(page.locator(".ql-cell.running")).to_have_count(1, timeout=PATIENCE_MS)
    web = [child for child in psutil.Process(server.process.pid).children(recursive=True) if "web" in child.cmdline()]
    assert web
    for child in web:
        child.kill()
    psutil.wait_procs(web, 10)
    wait_until_ready(server)
    with server.http() as http:
        http.post(f"/runs/{long_run}/cancel").raise_for_status()
    expect(page.locator(".state-pill.cancelled")).to_be_visible(timeout=30_000)
    expect(page.locator("#live-note")).to_be_hidden(timeout=20_000)


def test_a_page_survives_the_restart_of_the_store(visit, server, long_run):
    page = visit(f"/runs/{long_run}", expect_complaints=True)
    expect(page.locator(".ql-cell.running")).to_have_count(1, timeout=PATIENCE_MS)
    store = [child for child in psutil.Process(server.process.pid).children() if "valkey" in child.name()]
    assert store
    for child in store:
        child.kill()
    psutil.wait_procs(store, 10)
    wait_until_ready(server)
    before = page.locator(".ql-stage-card").inner_text()
    expect(page.locator(".ql-stage-card")).not_to_have_text(before, timeout=PATIENCE_MS)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state-pill.cancelled")).to_be_visible(timeout=30_000)
    expect(page.locator("#live-note")).to_be_hidden(timeout=20_000)


def test_a_page_says_quietly_that_it_is_cut_off_and_comes_back(visit, proxy, long_run):
    page = visit(f"/runs/{long_run}", through=proxy, expect_complaints=True)
    expect(page.locator(".ql-cell.running")).to_have_count(1, timeout=PATIENCE_MS)
    proxy.cut_off(True)
    expect(page.locator("#live-note")).to_contain_text("Reconnecting", timeout=30_000)
    expect(page.locator(".ql-variants")).to_be_visible()
    proxy.cut_off(False)
    expect(page.locator("#live-note")).to_be_hidden(timeout=30_000)
    before = page.locator(".ql-stage-card").inner_text()
    expect(page.locator(".ql-stage-card")).not_to_have_text(before, timeout=PATIENCE_MS)


def test_a_failed_run_says_why_and_what_to_do(visit, server):
    run_id = server.submit(name="wrong", model={"example": "digits-mlp", "architecture": "digits-cnn"})
    server.wait_for(run_id, "FAILED")
    page = visit(f"/runs/{run_id}")
    expect(page.locator(".verdict-sentence")).to_contain_text("digits-cnn")
    expect(page.locator(".ql-failure")).to_contain_text("architecture_mismatch")
    expect(page.locator(".ql-failure")).to_contain_text("missing")
    page.get_by_role("button", name="Retry as digits-mlp").first.click()
    page.wait_for_url(re.compile(rf"/runs/(?!{run_id})\w+$"))
    assert server.wait_for(page.url.rpartition("/")[2], "DONE", "FAILED")["state"] == "DONE"


def test_open_browsers_do_not_hold_up_the_end(tmp_path, browser):
    with quant_lens(tmp_path) as own:
        visitors = [Visitor(browser, own.url) for _ in range(3)]
        for visitor in visitors:
            visitor.page.goto("/")
            expect(visitor.page.locator("html")).to_have_attribute("data-live", "websocket", timeout=15_000)
        started = time.monotonic()
        os.kill(own.process.pid, signal.SIGTERM)
        own.process.wait(10)
        assert time.monotonic() - started < 5
        for visitor in visitors:
            visitor.context.close()
