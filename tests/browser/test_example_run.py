"""The first thing a user does: an empty server, one click, and a run that tells what it does until it is done."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE_MS, quant_lens, screenshot

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server on which nobody has ever run anything."""
    with quant_lens(tmp_path_factory.mktemp("fresh")) as running:
        yield running


@pytest.fixture(scope="module")
def example_run():
    """The run that the first test starts, for those after it."""
    return {}


def test_one_click_on_the_empty_page_runs_the_example(visit, server, example_run):
    page = visit("/")
    screenshot_target = page.get_by_role("button", name="Try it with the example model")
    expect(screenshot_target).to_be_visible()
    screenshot(page, "empty")
    screenshot_target.click()
    page.wait_for_url(re.compile(r"/runs/\w+$"))
    example_run["path"] = page.url.removeprefix(server.url)

    # Live: the percentage moves by itself, and a stage says what it is at.
    headline = page.locator(".ql-stage-headline")
    expect(headline).to_contain_text(re.compile(r"Running \d+ %"), timeout=PATIENCE_MS)
    expect(page.locator(".ql-cell.done").first).to_be_visible(timeout=PATIENCE_MS)
    first = headline.inner_text()
    expect(headline).not_to_have_text(first, timeout=PATIENCE_MS)
    expect(page.locator(".ql-at-work-head").first).to_contain_text(re.compile(r"\d+ of \d+"), timeout=PATIENCE_MS)
    assert page.locator("html").get_attribute("data-live") == "websocket"

    # Numbers come as their stage ends, long before the run does.
    float_row = page.locator(".ql-variants tbody tr").first
    expect(float_row.locator("td").nth(3)).to_contain_text("±", timeout=PATIENCE_MS)
    assert page.locator(".state-pill.running").count() >= 1
    expect(page.locator("#run-charts .chart-card").first).not_to_have_class(re.compile("waiting"), timeout=PATIENCE_MS)
    screenshot(page, "running")

    expect(page.locator(".state-pill.done")).to_be_visible(timeout=PATIENCE_MS)


def test_the_finished_run_says_what_to_ship(visit, example_run):
    page = visit(example_run["path"])
    expect(page.locator(".verdict-sentence")).to_contain_text(re.compile("safe to ship|caution|degraded|collapsed"))
    rows = page.locator(".ql-variants tbody tr")
    assert [row.split("\n")[0].strip() for row in rows.all_inner_texts()] == [
        "FP32",
        "int8",
        "int4",
        "int3",
        "int2",
    ] or (rows.count() == 5)
    for row in rows.all()[1:]:
        expect(row.locator(".verdict")).to_have_text(re.compile("^(safe|caution|degraded|collapsed)$"))
        assert row.locator(".skeleton").count() == 0
    assert page.locator(".ql-strip-head").inner_text().startswith("44 of 44 stages")
    for chart in ("sharpness", "lines"):
        assert page.locator(f'[id*=\'"chart":"{chart}"\'].chart-graph .plotly').count() == 1
    screenshot(page, "run")


def test_deployed_and_smooth_are_one_switch_and_the_address_remembers_it(visit, example_run):
    page = visit(example_run["path"])
    lines = page.locator(".chart-card", has_text="Loss along shared directions")
    expect(lines.locator(".plotly")).to_be_visible()
    expect(lines.locator(".card-sentence")).to_contain_text("each variant's own weights")
    page.locator("#run-landscape").get_by_text("Deployed").click()
    expect(lines.locator(".card-sentence")).to_contain_text("at every α")
    page.wait_for_url("**landscape=deployed")
    page.reload()
    expect(lines.locator(".card-sentence")).to_contain_text("at every α")


def test_settings_and_a_reload_show_the_same_run(visit, example_run):
    page = visit(example_run["path"])
    page.get_by_role("tab", name="Data & settings").click()
    page.wait_for_url("**tab=settings")
    page.reload()
    expect(page.locator(".ql-settings")).to_contain_text("digits-cnn")
    expect(page.locator(".ql-settings")).to_contain_text("64 probes")


def test_dark_is_the_same_page_in_other_colours(visit, example_run):
    page = visit(example_run["path"], color_scheme="dark")
    expect(page.locator(".verdict-sentence")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 16, 20)"
    expect(page.locator(".chart-graph .plotly").first).to_be_visible()
    paper = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert paper == "rgb(21, 24, 29)"
    screenshot(page, "run-dark")
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(page.locator("html")).to_have_attribute("data-mantine-color-scheme", "light")


def test_a_compare_link_opens_the_same_view_for_someone_else(visit, server, example_run):
    run_id = example_run["path"].rpartition("/")[2]
    other = server.submit(name="another", seed=1)
    server.wait_for(other, "DONE")
    page = visit("/")
    for name in ("another", "example: digits-cnn"):
        page.locator(".ag-row", has_text=name).first.locator("input[type=checkbox]").first.check()
    page.get_by_role("button", name=re.compile("Compare 2")).click()
    page.wait_for_url(re.compile(r"/compare\?runs="))
    address = page.url.removeprefix(server.url)
    assert run_id in address
    assert other in address
    expect(page.locator(".data-table").first).to_be_visible()
    seen = without_age(page.locator(".data-table").first.inner_text())

    elsewhere = visit(address)
    expect(elsewhere.locator(".data-table").first).to_have_text(re.compile(r"\S"))
    assert without_age(elsewhere.locator(".data-table").first.inner_text()) == seen
    screenshot(elsewhere, "compare")


def without_age(text: str) -> str:
    """A minute may pass between two looks."""
    return re.sub(r"(now|\d+ \w+ ago) ·", "·", text)
