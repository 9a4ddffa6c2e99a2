"""A recipe built in the page, calibrated, run, and told: what a user sees of quantization in full."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE_MS, choose_file, screenshot

pytestmark = pytest.mark.browser

START = "/new?model=example:digits-mlp&data=example:digits&schemes=w8a8&preset=quick&limit=64"


def test_a_recipe_is_built_run_and_told(visit, server):
    page = visit(START)
    calibration = page.locator("#new-calibration-block")
    expect(calibration).to_contain_text("Calibration rows for w8a8")
    expect(calibration).to_contain_text(re.compile(r"of the example's 1.437 training rows"))

    # The dialog, by keyboard: what is chosen makes a name, and what cannot be is told with the way out.
    page.locator("#new-build").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("#builder-name")).to_have_text("int4-g128")
    dialog.get_by_label("One scale for").first.click()
    page.get_by_role("option", name="each channel").click()
    expect(dialog.locator("#builder-name")).to_have_text("int4")
    dialog.get_by_role("checkbox", name="smoothquant").check()
    expect(dialog.locator("#builder-problem")).to_contain_text("is not defined for int4: its activations stay in float")
    expect(dialog.locator("#builder-add")).to_be_disabled()
    dialog.get_by_role("checkbox", name="smoothquant").uncheck()
    dialog.get_by_role("checkbox", name="gptq").check()
    expect(dialog.locator("#builder-name")).to_have_text("int4+gptq")
    dialog.get_by_label("damping").fill("7")
    expect(dialog.locator("#builder-problem")).to_contain_text("damping: Input should be less than 1")
    dialog.get_by_label("damping").fill("0.02")
    dialog.get_by_label("the last to run").check()
    expect(dialog.locator("#builder-told")).to_contain_text("columns one by one")
    expect(dialog.locator("#builder-told")).to_contain_text("the layer that runs last")
    screenshot(page, "builder", full_page=False)
    dialog.locator("#builder-add").press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator("#new-build")).to_be_focused()

    # It is chosen, it is in the address, and it is there again after a reload.
    recipe = "int4+gptq:damping=0.02+skip:head"
    expect(page.get_by_role("checkbox", name=recipe)).to_be_checked()
    page.wait_for_url("**schemes=w8a8,int4%2Bgptq:damping%3D0.02%2Bskip:head**")
    page.reload()
    expect(page.get_by_role("checkbox", name=recipe)).to_be_checked()
    expect(page.locator("#new-calibration-whose")).to_have_text(f"for w8a8 and {recipe}")
    page.get_by_label("Calibration rows").fill("48")
    page.wait_for_url("**calibration_limit=48**")
    expect(page.get_by_role("button", name=re.compile("^Run"))).to_be_enabled()
    page.keyboard.press("Control+Enter")
    page.wait_for_url(re.compile(r"/runs/\w+$"))

    record = server.wait_for(page.url.rpartition("/")[2], "DONE", "FAILED")
    assert record["state"] == "DONE", record["error"]
    assert record["spec"]["schemes"] == ["w8a8", recipe]
    expect(page.locator(".state-pill.done")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator(".facts")).to_contain_text("64 samples, calibrated on 48")
    expect(page.locator(".verdict-sentence")).to_contain_text("W8A8")
    expect(page.locator(".verdict-sentence")).to_contain_text("INT4 + GPTQ")
    page.get_by_text("How each variant was made").click()
    static, made = page.locator(".ql-making-variant").all()
    expect(static).to_contain_text("calibrated on 48 rows (static activation ranges)")
    ranges = static.get_by_role("region", name="Activation ranges of w8a8").locator("tbody tr")
    expect(ranges).to_have_count(3)
    expect(ranges.first).to_contain_text(re.compile(r"hidden1\s*int8\s*0\s*[\d.]+"))
    expect(made).to_contain_text("damping=0.02")
    expect(made).to_contain_text("classifier left in float by +skip:head")
    expect(made).to_contain_text("deployed landscape: scales and the algorithm's choice of codes stay as they are")
    assert page.locator(".caution-note").count() == 0
    screenshot(page, "recipes")


def test_a_file_to_calibrate_on_is_the_way_out_of_an_overlap(visit, digits_files, tmp_path):
    _, data = digits_files
    rows = tmp_path / "other_rows.npz"
    with np.load(data) as arrays:
        np.savez(rows, x=arrays["x"][:50] // 2, y=arrays["y"][:50])
    page = visit("/new?model=example:digits-mlp&schemes=w8a8,int4%2Bqat&limit=390")
    choose_file(page, "data", data)
    warning = page.locator("#new-calibration-warning")
    expect(warning).to_contain_text(re.compile("Lower Samples used to 365, or add a file"), timeout=PATIENCE_MS)
    expect(page.locator("#new-run-note")).to_contain_text("int4+qat cannot be trained on rows that are measured")
    choose_file(page, "calibration", rows)
    block = page.locator("#new-calibration-block")
    expect(block).to_contain_text("other_rows.npz", timeout=PATIENCE_MS)
    expect(block).to_contain_text("all the file's 50 rows", timeout=PATIENCE_MS)
    expect(warning).to_be_empty()
    page.wait_for_url(re.compile(r"calibration=file:[0-9a-f]{64}"))
    expect(page.get_by_role("button", name=re.compile("^Run"))).to_be_enabled()
    command = page.get_by_role("button", name="Copy as CLI").get_attribute("data-copy")
    assert "--scheme int4+qat" in command
    assert "--calibration other_rows.npz" in command
    page.get_by_role("button", name="Calibrate on rows of the data").click()
    expect(warning).not_to_be_empty()


def test_the_rest_of_a_column_opens_and_what_is_ticked_there_stays(visit):
    page = visit("/new")
    column = page.get_by_role("group", name="Weights and activations")
    more = column.get_by_role("button", name="14 more")
    expect(column.get_by_role("checkbox", name=re.compile("^w8a8-mse:"))).to_be_hidden()
    more.focus()
    page.keyboard.press("Enter")
    column.get_by_role("checkbox", name=re.compile("^w8a8-mse:")).click()
    column.get_by_role("button", name="Fewer").click()
    expect(column.get_by_role("checkbox", name=re.compile("^w8a8-mse:"))).to_be_visible()
    expect(column.get_by_role("checkbox", name=re.compile("^w8a8-entropy:"))).to_be_hidden()
    expect(column.get_by_role("button", name="13 more")).to_be_visible()
    page.get_by_label("A scheme by its name").fill("int4 + GTPQ")
    page.keyboard.press("Enter")
    expect(page.locator("#new-custom-problem")).to_contain_text("Did you mean gptq?")
