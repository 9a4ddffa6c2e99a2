"""What a run measures: suggested by the files, chosen by the user, and asked of files and folders alike."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE_MS, choose_file
from tests.language_models import sentences, tiny_llama, write_jsonl, zipped

pytestmark = pytest.mark.browser


def test_a_language_model_and_texts_are_measured_as_what_they_are(visit, server, tmp_path):
    tiny_llama(tmp_path / "llama")
    model, texts = zipped(tmp_path / "llama", tmp_path / "llama.zip"), tmp_path / "lines.jsonl"
    write_jsonl(texts, sentences(40))
    page = visit("/new")
    expect(page.locator("#new-text-block")).to_be_hidden()
    choose_file(page, "model", model)
    expect(page.locator("#new-card-model")).to_contain_text("LlamaForCausalLM", timeout=PATIENCE_MS)
    choose_file(page, "data", texts)
    expect(page.locator("#new-card-data")).to_contain_text("40 samples", timeout=PATIENCE_MS)
    expect(page.locator("#new-task")).to_have_value("as the files say: causal lm")
    expect(page.locator("#new-text-block")).to_be_visible()
    expect(page.locator("#new-run-note")).to_have_text("")
    page.get_by_label("Tokens a row").fill("24")
    page.wait_for_url(re.compile("text_length=24"))
    baseline = page.locator("#new-baseline")
    expect(baseline).to_contain_text(re.compile("accuracy|nats loss"), timeout=PATIENCE_MS)
    expect(page.locator(".ql-estimate")).to_contain_text("about", timeout=PATIENCE_MS)
    page.get_by_role("radio", name="quick").click()
    page.wait_for_url(re.compile("preset=quick"))
    page.keyboard.press("Control+Enter")
    page.wait_for_url(re.compile(r"/runs/\w+$"))
    spec = server.wait_for(page.url.rpartition("/")[2], "RUNNING", "DONE", "FAILED")["spec"]
    assert (spec["task"], spec["data"]["text"]) == ("causal-lm", {"length": 24, "packed": None})


def test_the_user_may_choose_another_task_and_the_check_follows(visit):
    page = visit("/new?model=example:digits-mlp&data=example:digits")
    expect(page.locator("#new-task")).to_have_value("as the files say: classification", timeout=PATIENCE_MS)
    expect(page.locator("#new-baseline")).to_contain_text("labels and transform agree", timeout=PATIENCE_MS)
    page.locator("#new-task").click()
    page.get_by_role("option", name=re.compile("^self-distillation")).click()
    page.wait_for_url(re.compile("task=self-distillation"))
    expect(page.locator("#new-baseline")).not_to_contain_text("labels and transform agree", timeout=PATIENCE_MS)
    expect(page.locator("#new-baseline")).to_contain_text("256 rows", timeout=PATIENCE_MS)


def test_a_folder_is_named_by_its_path(visit, server):
    from PIL import Image
    from sklearn.datasets import load_digits

    folder, digits = server.shelf / "pictures", load_digits()
    for index in range(1400, 1480):
        place = folder / str(digits.target[index])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[index] * 15).astype(np.uint8)).save(place / f"{index}.png")
    page = visit(f"/new?model=example:digits-mlp&data=path:{folder}/&layout=NHW&scale=1/240&preset=quick&schemes=int8")
    expect(page.locator("#new-card-data")).to_contain_text("pictures")
    expect(page.locator("#new-baseline")).to_contain_text("labels and transform agree", timeout=PATIENCE_MS)
    run_id = server.submit(
        data={"path": str(folder), "limit": 64, "transform": {"layout": "NHW", "scale": 1 / 240}},
        analyses={"preset": "quick", "plane": {"steps": 0}},
    )
    record = server.wait_for(run_id, "DONE", "FAILED")
    assert record["state"] == "DONE", record["error"]
    with server.http() as http:
        result = http.get(f"/runs/{run_id}/result").json()
    assert result["data"]["samples"] == 64
    assert result["variants"][0]["evaluation"]["accuracy"] > 0.85
