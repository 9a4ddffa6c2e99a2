"""A model from a hub (on the loopback) by its id, on the New page of a server that is allowed out."""

from __future__ import annotations

import dataclasses
import re

import psutil
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE_MS, quant_lens, screenshot, wait_until
from tests.hub_server import Hub, repo_of
from tests.language_models import tiny_bert

pytestmark = pytest.mark.browser
TOKEN = "hf_for_one_process_alone"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    opened = Hub()
    folder = tmp_path_factory.mktemp("bert")
    tiny_bert(folder, num_hidden_layers=12, hidden_size=128, intermediate_size=256)
    opened.repos["team/bert"] = repo_of(folder, modeling_mine__py=b"raise SystemExit")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(hub, tmp_path_factory):
    """In the place of the server that other modules share."""
    home = str(tmp_path_factory.mktemp("hf"))
    folder = tmp_path_factory.mktemp("quant-lens")
    with quant_lens(folder, QUANT_LENS_HUB="1", HF_ENDPOINT=hub.url, HF_HOME=home, HF_TOKEN=TOKEN) as running:
        yield running


@pytest.fixture(autouse=True)
def _at_once(hub):
    hub.pause_s = 0.0
    yield
    hub.pause_s = 0.0


def test_an_id_becomes_a_model_in_the_form(visit, hub):
    page = visit("/new")
    hub.pause_s = 0.2
    field = page.get_by_role("textbox", name="A model of the hub by its id")
    field.fill("team/bert")
    field.press("Enter")
    row = page.locator("#new-hub-row .ql-upload")
    expect(row).to_contain_text(re.compile(r"\d.B of 6\.49.MB|\d.[kM]B of 6\.49.MB"), timeout=PATIENCE_MS)
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", re.compile("[1-9]"))
    screenshot(page, "new-hub")
    page.reload()  # and it is found again
    expect(row).to_contain_text("team/bert")
    hub.pause_s = 0.0
    card = page.locator("#new-card-model")
    expect(card).to_contain_text("team--bert@01234567.zip", timeout=PATIENCE_MS)
    expect(card).to_contain_text("hugging-face", timeout=PATIENCE_MS)
    expect(page.get_by_role("radio", name="BertForMaskedLM")).to_be_checked(timeout=PATIENCE_MS)
    page.wait_for_url(re.compile("model=file:[0-9a-f]{64}"))
    page.get_by_role("button", name="Choose another model").click()
    expect(field).to_have_value("")
    expect(page.locator("#new-hub-row")).to_be_empty()


def test_it_is_cancelled_and_a_mistake_is_told(visit, server, hub):
    page = visit("/new", color_scheme="dark")
    hub.repos["team/other"] = dataclasses.replace(hub.repos["team/bert"], commit="f" * 40)
    hub.pause_s = 0.3
    field = page.get_by_role("textbox", name="A model of the hub by its id")
    field.fill("team/other@main")
    page.get_by_role("button", name="Fetch", exact=True).click()
    row = page.locator("#new-hub-row")
    expect(row).to_contain_text("Commit ffffffff", timeout=PATIENCE_MS)
    page.get_by_role("button", name="Cancel the fetch of team/other").click()
    expect(row).to_be_empty()

    # What comes after something else was chosen does not take its place.
    with server.http() as http:
        field.fill("team/other@main")
        field.press("Enter")
        expect(row).to_contain_text("Commit ffffffff", timeout=PATIENCE_MS)
        key = http.post("/hub", json={"repo": "team/other", "revision": "main"}).json()["key"]
        page.get_by_role("button", name="digits-mlp").click()
        expect(page.locator("#new-card-model")).to_contain_text("digits-mlp")
        hub.pause_s = 0.0
        wait_until(page, lambda: http.get(f"/hub/{key}").json()["state"] == "done")
        expect(row).to_be_empty(timeout=PATIENCE_MS)
        expect(page.locator("#new-card-model")).to_contain_text("digits-mlp")
    page.get_by_role("button", name="Choose another model").click()

    field.fill("not an id")
    field.press("Enter")
    expect(row.get_by_role("alert")).to_contain_text("owner/name")
    field.fill("team/none")
    field.press("Enter")
    expect(row).to_contain_text(re.compile("private.*HF_TOKEN"), timeout=PATIENCE_MS)
    screenshot(page, "new-hub-refused")
    hub.repos["team/none"] = hub.repos["team/bert"]
    page.get_by_role("button", name="Fetch team/none again").click()
    expect(page.locator("#new-card-model")).to_contain_text(".zip", timeout=PATIENCE_MS)


def test_the_worker_that_fetches_alone_has_the_token_and_the_pages_say_that_it_is_there(visit, server):
    parts = psutil.Process(server.process.pid).children(recursive=True)
    told = [part.cmdline()[-1] for part in parts if part.environ().get("HF_TOKEN") == TOKEN]
    assert told == ["fetch"]
    page = visit("/server")
    expect(page.get_by_role("region", name="Workers")).to_contain_text("models from the hub")
    expect(page.get_by_role("region", name="Workers")).to_contain_text("opens no file")
    expect(page.get_by_role("region", name="Queue")).to_contain_text("Models to fetch from the hub")
    assert TOKEN not in page.content()
