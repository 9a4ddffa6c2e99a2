"""From two files on a user's disk to a run, and every way in which that may go wrong."""

from __future__ import annotations

import hashlib
import os
import pickle
import re

import numpy as np
import psutil
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE_MS, choose_file, drop_files, screenshot, wait_until

pytestmark = pytest.mark.browser


def test_two_dropped_files_become_a_run(visit, server, digits_files):
    model, data = digits_files
    page = visit("/new")
    expect(page.get_by_role("button", name=re.compile("^Run"))).to_be_disabled()
    drop_files(page, "#new-zone-model", data, model)  # both at once, on the wrong zone: extensions tell

    model_card = page.locator("#new-card-model")
    expect(model_card).to_contain_text("my_digits.safetensors", timeout=PATIENCE_MS)
    expect(model_card).to_contain_text("safetensors")
    expect(model_card).to_contain_text(re.compile(r"Parameters 3.466"), timeout=PATIENCE_MS)
    expect(page.get_by_role("radio", name="digits-mlp")).to_be_checked()
    data_card = page.locator("#new-card-data")
    expect(data_card).to_contain_text("397 samples, 10 classes", timeout=PATIENCE_MS)
    expect(page.locator(".ql-pictures img")).to_have_count(12)

    # The file suggests its transform, and the float model says that it is right.
    baseline = page.locator("#new-baseline")
    expect(baseline).to_contain_text("labels and transform agree", timeout=PATIENCE_MS)
    accuracy = float(re.search(r"([\d.]+) ±", baseline.inner_text())[1])
    assert accuracy > 85
    expect(page.locator(".ql-estimate")).to_contain_text(re.compile(r"about .*(s|min)"))
    screenshot(page, "new")

    page.get_by_role("radio", name="quick").click()
    page.get_by_label("Samples used").fill("64")
    page.get_by_label("Name", exact=True).fill("from two files <script>alert(1)</script>")
    page.wait_for_url(re.compile(r"preset=quick"))
    expect(page.get_by_role("button", name=re.compile("^Run"))).to_be_enabled()
    page.keyboard.press("Control+Enter")
    page.wait_for_url(re.compile(r"/runs/\w+$"))
    expect(page.locator("h1")).to_have_text("from two files <script>alert(1)</script>")
    record = server.wait_for(page.url.rpartition("/")[2], "DONE", "FAILED")
    assert record["state"] == "DONE", record["error"]
    assert record["spec"]["data"]["transform"]["layout"] == "NHW"
    assert record["spec"]["data"]["transform"]["scale"] == 1 / 255  # every digit, as the command line has it


def test_a_draft_survives_a_reload_and_opens_from_its_link(visit, digits_files):
    page = visit("/new?model=example:digits-mlp&data=example:digits&schemes=int8,int3&preset=thorough&seed=7")
    expect(page.get_by_role("radio", name="thorough")).to_be_checked()
    expect(page.locator("#new-card-model")).to_contain_text("digits-mlp")
    page.get_by_role("checkbox", name=re.compile("^int2:")).click()
    page.wait_for_url("**int8,int3,int2**")
    page.reload()
    expect(page.get_by_role("checkbox", name=re.compile("^int2:"))).to_be_checked()
    expect(page.locator("#new-schemes-count")).to_have_text("3 chosen")
    expect(page.locator("#new-summary")).to_contain_text(re.compile(r"Seed\s*7"))


def test_a_broken_connection_and_a_reload_go_on_where_the_server_stopped(visit, proxy, tmp_path):
    big = tmp_path / "big.safetensors"
    big.write_bytes(os.urandom(30_000_000))
    page = visit("/new", through=proxy, expect_complaints=True)  # the browser reports the broken request
    page.wait_for_selector("#new-browse-model")
    proxy.pause_s, proxy.cut_after = 0.02, 11_000_000
    choose_file(page, "model", big)
    upload = page.locator(".ql-upload")
    expect(upload).to_contain_text(re.compile(r"[\d.]+ of 30.0 MB · [\d.]+ MB/s · \d+ s left"), timeout=30_000)
    for _ in range(300):
        if proxy.cuts:
            break
        page.wait_for_timeout(100)
    assert proxy.cuts == 1
    expect(upload).to_contain_text(re.compile(r"[\d.]+ MB/s"), timeout=30_000)  # it went on by itself

    page.reload()
    page.wait_for_selector("#new-browse-model")
    page.wait_for_timeout(500)
    before = proxy.sent_up
    choose_file(page, "model", big)
    expect(upload).to_contain_text("where the server stopped")
    proxy.pause_s = 0.0
    expect(page.locator("#new-card-model")).to_contain_text("big.safetensors", timeout=PATIENCE_MS)
    assert proxy.sent_up - before < 30_000_000  # what had arrived was not sent again
    expect(page.locator("#new-card-model")).to_contain_text("refused", timeout=PATIENCE_MS)


def test_an_upload_goes_on_by_itself_after_the_web_process_was_killed(visit, server, proxy, tmp_path):
    """The same with 2 GB is in ``benchmarks/uploads.py``."""
    big = tmp_path / "killed.safetensors"
    big.write_bytes(os.urandom(30_000_000))
    page = visit("/new", through=proxy, expect_complaints=True)  # the browser reports the broken request
    page.wait_for_selector("#new-browse-model")
    proxy.pause_s = 0.02
    choose_file(page, "model", big)
    parts = server.data_dir / "uploads"
    wait_until(page, lambda: 8_000_000 < sum(part.stat().st_size for part in parts.glob("*.part")) < 25_000_000)
    (web,) = (part for part in psutil.Process(server.process.pid).children() if part.cmdline()[-1] == "web")
    web.kill()
    had = sum(part.stat().st_size for part in parts.glob("*.part"))
    proxy.pause_s = 0.0
    before = proxy.sent_up
    expect(page.locator("#new-card-model")).to_contain_text("killed.safetensors", timeout=PATIENCE_MS)
    assert proxy.sent_up - before < 30_000_000 - had + 9_000_000  # but the chunk that was under way, nothing twice
    sha256 = hashlib.sha256(big.read_bytes()).hexdigest()
    with server.http() as http:
        assert http.get(f"/files/{sha256}").json()["size_bytes"] == 30_000_000


def test_bad_files_are_told_in_words_and_nothing_else_is_lost(visit, tmp_path, digits_files):
    module = tmp_path / "whole_model.pt"
    module.write_bytes(pickle.dumps({"not": "a state dict", "call": os.getcwd}))
    page = visit("/new?schemes=int8,int3")
    page.get_by_label("Name", exact=True).fill("kept")
    choose_file(page, "model", module)
    card = page.locator("#new-card-model")
    expect(card).to_contain_text("refused", timeout=PATIENCE_MS)
    expect(card.get_by_role("alert")).to_contain_text(re.compile("state_dict|safetensors"))
    expect(page.get_by_role("button", name=re.compile("^Run"))).to_be_disabled()

    page.get_by_role("button", name="Choose another model").click()
    choose_file(page, "model", digits_files[0])
    expect(page.get_by_role("radio", name="digits-mlp")).to_be_checked(timeout=PATIENCE_MS)
    assert page.get_by_label("Name", exact=True).input_value() == "kept"
    expect(page.locator("#new-schemes-count")).to_have_text("2 chosen")


def test_a_file_in_the_wrong_place_is_moved_by_one_click(visit, tmp_path):
    data = tmp_path / "frames.bin"  # an npz under a name that says nothing
    with data.open("wb") as file:
        np.savez(file, x=np.zeros((40, 8, 8), np.uint8), y=np.arange(40) % 10)
    page = visit("/new")
    choose_file(page, "model", data)
    expect(page.locator("#new-card-model")).to_contain_text("frames.bin", timeout=PATIENCE_MS)
    page.get_by_role("button", name="It is the data").click()
    expect(page.locator("#new-card-data")).to_contain_text("frames.bin")
    expect(page.locator("#new-zone-model")).to_be_visible()


def test_an_empty_file_and_a_wrong_scheme_are_refused_beside_their_field(visit, tmp_path):
    empty = tmp_path / "empty.pt"
    empty.touch()
    page = visit("/new")
    choose_file(page, "model", empty)
    expect(page.locator(".ql-upload-note")).to_contain_text("empty.pt is empty")
    page.get_by_label("A scheme by its name").fill("int9-g0")
    page.get_by_role("button", name="Add scheme").click()
    expect(page.locator("#new-custom-problem")).to_contain_text("Unknown scheme")
    page.get_by_label("A scheme by its name").fill("int5-g64-asym")
    page.keyboard.press("Enter")
    expect(page.get_by_role("checkbox", name=re.compile("^int5-g64-asym"))).to_be_checked()


def test_a_checkpoint_that_nothing_fits_shows_its_keys(visit, tmp_path):
    from safetensors.numpy import save_file

    odd = tmp_path / "odd.safetensors"
    save_file({"trunk.0.weight": np.zeros((4, 3, 7, 7), np.float32), "head.w": np.zeros((2,), np.float32)}, odd)
    page = visit("/new")
    choose_file(page, "model", odd)
    differences = page.get_by_role("region", name="Key differences")
    expect(differences).to_contain_text("trunk.0.weight", timeout=PATIENCE_MS)
    expect(differences).to_contain_text("4 × 3 × 7 × 7")
    expect(page.locator("#new-run-note, .ql-problem").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Run"))).to_be_disabled()
