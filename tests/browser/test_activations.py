"""The tab Activations & BatchNorm in a browser: charts, choices in the address, exports; a model without BatchNorm."""

from __future__ import annotations

import csv
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import card, screenshot

pytestmark = pytest.mark.browser

CHARTS = ("Signal to quantization noise", "Outliers", "Activation ranges", "Distribution of one layer's output",
          "BatchNorm: running statistics and the data's")  # fmt: skip


@pytest.fixture(scope="module")
def run_id(server):
    run_id = server.submit(
        name="activations of the example", model={"example": "digits-cnn"}, schemes=["int8", "int2"],
        data={"example": "digits", "limit": 256},
    )  # fmt: skip
    server.wait_for(run_id, "DONE")
    return run_id


def opened(visit, run_id, query="", **options) -> Page:
    page = visit(f"/runs/{run_id}?tab=activations{query}", **options)
    for title in CHARTS:
        expect(card(page, title)).not_to_have_class(re.compile("waiting"))
        expect(card(page, title).locator(".main-svg").first).to_be_visible()
    return page


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("textbox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_a_variant_and_a_layer_are_chosen_and_the_address_remembers_them(visit, run_id):
    page = opened(visit, run_id)
    sqnr, histogram = card(page, CHARTS[0]), card(page, CHARTS[3])
    expect(sqnr.locator(".card-sentence")).to_contain_text("int8: ")
    choose(page, "Variant", "int2")
    expect(sqnr.locator(".card-sentence")).to_contain_text("int2: conv2 loses most by itself")
    choose(page, "Layer of the distribution", "classifier")
    expect(histogram.locator(".xtitle")).to_contain_text("output of classifier")
    card(page, "Outliers").get_by_text("Kurtosis").click()
    card(page, "Activation ranges").get_by_text("In σ of FP32").click()
    expect(card(page, "Activation ranges").locator(".xtitle")).to_contain_text("σ of FP32")
    page.wait_for_url(re.compile(r"(?=.*variant=int2)(?=.*layer=classifier)(?=.*outliers=kurtosis)(?=.*range=sigma)"))
    screenshot(page, "activations")
    page.reload()
    expect(sqnr.locator(".card-sentence")).to_contain_text("int2: ")
    expect(histogram.locator(".xtitle")).to_contain_text("output of classifier")
    expect(card(page, "Outliers").locator(".xtitle")).to_contain_text("kurtosis")


def test_re_estimation_stands_in_a_table_and_drift_is_exported(visit, server, run_id):
    page = opened(visit, run_id, "&variant=int2", color_scheme="dark")
    table = page.locator(".table-card", has_text="Re-estimating BatchNorm")
    expect(table.locator("tbody tr")).to_have_count(3)
    expect(table).to_contain_text("int2 gains most: its loss falls by")
    expect(table).to_contain_text("rows that the loss is measured on")
    page.get_by_role("button", name=f"Export {CHARTS[4]}").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="CSV, the numbers").click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    with server.http() as http:
        result = http.get(f"/runs/{run_id}/result").json()
    measured = result["variants"][2]["batchnorm"]["layers"]
    shown = [row for row in rows if row["variant"] == "int2"]
    assert [float(row["mean_shift_rms"]) for row in shown] == [layer["mean_shift_rms"] for layer in measured]


def test_a_model_without_batch_normalisation_says_so(visit, server):
    bare = server.submit(name="no normalisation")
    server.wait_for(bare, "DONE")
    page = visit(f"/runs/{bare}?tab=activations")
    expect(card(page, CHARTS[4])).to_contain_text("The model has no batch normalisation.")
    expect(page.get_by_text("Re-estimating BatchNorm")).to_have_count(0)
