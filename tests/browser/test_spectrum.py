"""The Spectrum tab in a browser: switches of both axes, exports, keyboard, and nothing that nobody asked for."""

from __future__ import annotations

import csv
import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import card, screenshot

pytestmark = pytest.mark.browser

CHARTS = ("Spectral density", "Eigenvalues at both ends", "Convergence of λmax", "Curvature by layer")


@pytest.fixture(scope="module")
def run_id(server):
    run_id = server.submit(
        name="spectrum of the example", model={"example": "digits-cnn"}, schemes=["int8", "int4", "int2"],
        data={"example": "digits", "limit": 256},
        analyses={"preset": "quick", "curvature": {"top": 5, "bottom": 5, "sharpness": True,
                                                   "layer_eigenvalues": "all"}},
    )  # fmt: skip
    server.wait_for(run_id, "DONE")
    return run_id


def opened(visit, run_id, query="", **options) -> Page:
    page = visit(f"/runs/{run_id}?tab=spectrum{query}", **options)
    for title in CHARTS:
        expect(card(page, title)).not_to_have_class(re.compile("waiting"))
        expect(card(page, title).locator(".main-svg").first).to_be_visible()
    return page


def axis_title(page: Page, which: str) -> str:
    return card(page, "Spectral density").locator(f".{which}title").text_content() or ""


def test_both_axes_are_switches_and_the_address_remembers_them(visit, run_id):
    page = opened(visit, run_id)
    density = card(page, "Spectral density")
    assert "log" not in axis_title(page, "x")
    assert "log" in axis_title(page, "y")
    density.get_by_text("Log λ").click()
    expect(density.locator(".xtitle")).to_contain_text("log; linear within ±")
    expect(density.locator(".card-sentence")).to_contain_text("areas compare on the linear axis only")
    screenshot(page, "spectrum")
    density.get_by_text("Linear density").click()
    expect(density.locator(".ytitle")).not_to_contain_text("log")
    page.wait_for_url(re.compile(r"(?=.*lambda=symlog)(?=.*density=linear)"))
    page.reload()
    expect(density.locator(".xtitle")).to_contain_text("log; linear within ±")
    expect(density.locator(".ytitle")).not_to_contain_text("log")
    density.get_by_text("Linear λ").click()
    density.get_by_text("Log density").click()
    page.wait_for_url(lambda address: "lambda=" not in address and "density=" not in address)


def test_keyboard_reaches_and_turns_every_control(visit, run_id):
    page = opened(visit, run_id)
    page.get_by_role("tab", name="Spectrum").focus()
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(document.activeElement.closest('[role=radiogroup]') || document.activeElement)"
                ".getAttribute('aria-label') || ''"
            )
        )
    wanted = ["Curvature in numbers", "Horizontal axis", "Vertical axis", "Measure"]
    wanted += [f"{verb} {title}{what}" for title in CHARTS
               for verb, what in (("Show", " as a table"), ("Export", ""), ("Enlarge", ""))]  # fmt: skip
    assert [name for name in wanted if name not in reached] == []
    page.get_by_role("radiogroup", name="Horizontal axis").locator("input:checked").focus()
    page.keyboard.press("ArrowRight")
    expect(card(page, "Spectral density").locator(".xtitle")).to_contain_text("log; linear within ±")
    page.get_by_role("button", name="Enlarge Spectral density").focus()
    page.keyboard.press("Enter")
    expect(card(page, "Spectral density")).to_have_class(re.compile("enlarged"))
    page.keyboard.press("Escape")
    expect(card(page, "Spectral density")).not_to_have_class(re.compile("enlarged"))


def exported(page: Page, title: str, kind: str) -> tuple[str, bytes]:
    page.get_by_role("button", name=f"Export {title}").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name=kind).click()
    expect(page.get_by_role("menu")).to_have_count(0)  # it fades: a second one beside it has the same items
    return download.value.suggested_filename, download.value.path().read_bytes()


def test_each_chart_is_exported_as_picture_and_as_numbers(visit, server, run_id):
    page = opened(visit, run_id, "&lambda=symlog")
    name, png = exported(page, "Spectral density", "PNG picture")
    assert (name, png[:8]) == (f"density-{run_id}.png", b"\x89PNG\r\n\x1a\n")
    name, svg = exported(page, "Spectral density", "SVG drawing")
    assert name == f"density-{run_id}.svg"
    assert "linear within" in svg.decode()
    name, text = exported(page, "Spectral density", "CSV, the numbers")
    rows = list(csv.DictReader(text.decode().splitlines()))
    with server.http() as http:
        result = http.get(f"/runs/{run_id}/result").json()
    density = result["variants"][0]["curvature"]["density"]
    own = [row for row in rows if row["variant"] == "FP32"]
    assert [float(row["lambda"]) for row in own] == density["x"], "numbers are λ, whatever the axis"
    assert [float(row["low"]) for row in own] == density["low"]
    name, text = exported(page, "Eigenvalues at both ends", "JSON, the numbers")
    table = json.loads(text)
    assert name == f"eigenvalues-{run_id}.json"
    assert table["columns"][:4] == ["variant", "end", "rank", "lambda"]
    assert len(table["rows"]) == 4 * 10


def test_numbers_stand_in_one_table_and_nothing_nobody_asked_for(visit, server, run_id):
    page = opened(visit, run_id)
    numbers = page.locator(".ql-numbers")
    expect(numbers).to_contain_text("Relative λmax")
    expect(numbers.locator("tbody tr", has_text="Negative eigenvalues").locator("td").first).to_contain_text(" to ")
    bare = server.submit(name="no sharpness")
    server.wait_for(bare, "DONE")
    page = opened(visit, bare, color_scheme="dark")
    expect(page.locator(".ql-numbers")).to_contain_text("Effective rank")
    expect(page.locator(".ql-numbers")).not_to_contain_text("Relative λmax")
    assert page.locator(".ql-numbers tbody tr", has_not=page.locator("td .value, td:not(:has(.absent))")).count() == 0


def test_densities_of_two_runs_share_their_axes(visit, server, run_id):
    other = server.submit(name="another model")
    server.wait_for(other, "DONE")
    page = visit(f"/compare?runs={run_id},{other}&baseline={run_id}")
    density = card(page, "Spectral density")
    expect(density).not_to_have_class(re.compile("waiting"))
    density.get_by_text("Log λ").click()
    page.wait_for_url("**lambda=symlog**")
    expect(density.locator(".xtitle")).to_contain_text("log; linear within ±")
    page.reload()
    expect(density.locator(".xtitle")).to_contain_text("log; linear within ±")
