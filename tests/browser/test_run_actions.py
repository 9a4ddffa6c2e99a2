"""What can be done with a run from its page: rename, tag, repeat, export, archive, delete."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run_id(server):
    found = server.submit(name="to be changed")
    server.wait_for(found, "DONE")
    return found


def _more(page, item: str) -> None:
    page.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name=item).click()


def test_a_name_tags_and_a_note_are_kept_and_stay_text(visit, run_id):
    page = visit(f"/runs/{run_id}")
    _more(page, "Name, tags, note")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_have_value("to be changed")
    dialog.get_by_label("Name").fill("release 2.4")
    dialog.get_by_label("Tags").fill("prod")
    page.keyboard.press("Enter")
    dialog.get_by_label("Note").fill("<b>after QAT</b>")
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator("h1")).to_have_text("release 2.4")
    page.reload()
    expect(page.locator(".tag")).to_have_text("prod")
    expect(page.locator(".ql-run-said")).to_have_text("<b>after QAT</b>")


def test_a_duplicate_opens_the_draft_with_everything(visit, run_id):
    page = visit(f"/runs/{run_id}")
    _more(page, "Duplicate and change")
    page.wait_for_url(re.compile(r"/new\?"))
    expect(page.get_by_label("Samples used")).to_have_value("64")
    expect(page.get_by_role("radio", name="quick")).to_be_checked()
    expect(page.locator("#new-card-model")).to_contain_text("digits-mlp")


def test_exports_are_downloads_of_the_whole_result(visit, run_id):
    page = visit(f"/runs/{run_id}")
    page.get_by_role("button", name="Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name=re.compile("JSON")).click()
    result = json.loads(download.value.path().read_text())
    assert [variant["name"] for variant in result["variants"]] == ["FP32", "int8"]


def test_share_copies_the_address_of_this_very_view(visit, server, run_id):
    page = visit(f"/runs/{run_id}?tab=settings", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Share").click()
    expect(page.locator("[data-copied=yes]")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"{server.url}/runs/{run_id}?tab=settings"


def test_archived_runs_leave_the_table_and_deleted_ones_are_gone(visit, server):
    run_id = server.submit(name="short-lived")
    server.wait_for(run_id, "DONE")
    page = visit(f"/runs/{run_id}")
    _more(page, "Archive")
    expect(page.locator(".tag", has_text="archived")).to_be_visible()
    with server.http() as http:
        assert run_id not in [run["id"] for run in http.get("/runs").json()["items"]]
    _more(page, "Delete")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    _more(page, "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url(f"{server.url}/")
    with server.http() as http:
        assert http.get(f"/runs/{run_id}").status_code == 404

    gone = visit(f"/runs/{run_id}", expect_complaints=True)  # the poll's 404 is reported by the browser
    expect(gone.locator(".verdict-sentence")).to_contain_text("no run")
