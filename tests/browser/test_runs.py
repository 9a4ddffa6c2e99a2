"""The runs table in a browser: it goes on while a run does, keeps what is ticked, and does what its bar says."""

import re
import time

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def tagged(server):
    """A tag of this module's own, on two finished runs: other tests' runs stand in the same table."""
    tag = f"t{time.time_ns()}"
    with server.http() as http:
        for name in ("first of two", "second of two"):
            run_id = server.submit(name=name)
            server.wait_for(run_id, "DONE")
            assert http.patch(f"/runs/{run_id}", json={"tags": [tag]}).status_code == 200
    return tag


def row(page, name):
    return page.locator(".ag-row", has_text=name).first


def tick(page, name):
    """One click. (``check()`` asks the element that it clicked, which a refresh of the rows may have replaced.)"""
    box = row(page, name).locator("input[type=checkbox]")
    box.click()
    expect(box).to_be_checked()


def test_a_running_row_goes_on_by_itself(visit, server):
    page = visit("/")
    name = f"slow {time.time_ns()}"
    run_id = server.submit(
        name=name, model={"example": "digits-cnn"}, schemes=["int8", "int4", "int3"], seed=time.time_ns() % 10**6,
        data={"example": "digits"}, analyses={"preset": "standard"},
    )  # fmt: skip
    percent = row(page, name).locator(".cell-percent")
    expect(percent).to_have_text(re.compile(r"[1-9]\d? %"))
    seen = {percent.inner_text()}
    deadline = time.monotonic() + 20
    while len(seen) < 4 and time.monotonic() < deadline:
        page.wait_for_timeout(250)
        seen.add(percent.inner_text())
    with server.http() as http:
        http.post(f"/runs/{run_id}/cancel")
    assert len(seen) >= 4, f"the bar stood still: {seen}"
    expect(row(page, name)).to_contain_text("Cancelled")


def test_ticks_survive_a_search_a_comparison_and_the_way_back(visit, tagged):
    page = visit("/")
    tick(page, "first of two")
    tick(page, "second of two")
    expect(page.locator("#selected-count")).to_have_text("2 selected")

    page.keyboard.press("/")
    page.keyboard.type("second")
    expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(1)
    expect(page.locator("#selected-count")).to_have_text("2 selected")
    assert page.url.endswith("?q=second"), "the view is in the address"

    page.locator("#runs-q").fill("")
    expect(row(page, "first of two").locator("input[type=checkbox]")).to_be_checked()
    page.locator("h1").click()
    page.keyboard.press("c")
    page.wait_for_url(re.compile("/compare"))
    expect(page.locator("#compare-metrics")).to_be_visible()
    page.go_back()
    expect(row(page, "first of two").locator("input[type=checkbox]")).to_be_checked()
    expect(page.locator("#selected-count")).to_have_text("2 selected")
    page.keyboard.press("Escape")
    expect(page.locator("#selection-bar")).to_be_hidden()
    expect(row(page, "first of two").locator("input[type=checkbox]")).not_to_be_checked()


def test_a_search_that_is_not_understood_says_where(visit, tagged):
    page = visit(f"/?q=tag:{tagged}")
    expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(2)
    page.locator("#runs-q").fill("tag:(")
    expect(page.locator("#runs-q-error")).to_contain_text("column 5")
    expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(2)
    page.locator("#runs-q").fill("nothing is called this")
    expect(page.locator("#runs-nothing")).to_contain_text("No run fits")
    expect(page.locator("#runs-q-error")).to_be_empty()


def test_tags_archive_and_delete(visit, server):
    name = f"to be deleted {time.time_ns()}"
    run_id = server.submit(name=name)
    server.wait_for(run_id, "DONE")
    page = visit("/")
    tick(page, name)
    page.get_by_role("button", name="Tag").click()
    page.locator("#tag-values").fill("checked")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Save tags").click()
    expect(row(page, name).locator(".tag")).to_have_text("checked")

    page.get_by_role("button", name="Archive").click()
    expect(page.locator(".ag-row", has_text=name)).to_have_count(0)
    page.locator("#runs-state").click()
    page.get_by_role("option", name="Archived").click()
    tick(page, name)
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.locator(".ag-row", has_text=name)).to_have_count(0)
    with server.http() as http:
        assert http.get(f"/runs/{run_id}").status_code == 404


def test_a_run_joins_and_leaves_a_comparison_in_place(visit, server, tagged):
    with server.http() as http:
        first, second = (run["id"] for run in http.get("/runs", params={"q": f"tag:{tagged}"}).json()["items"])
    page = visit(f"/compare?runs={first}&baseline={first}")
    page.locator("#compare-add").fill(
        "first of two" if "second" in page.locator("#compare-metrics").inner_text() else "second of two"
    )
    page.get_by_role("option", name=re.compile("of two")).first.click()
    expect(page.locator("#compare-metrics tbody tr")).to_have_count(2)
    page.wait_for_url(re.compile(f"runs={first},{second}"))
    page.get_by_role("button", name=re.compile("^Take ")).nth(1).click()
    expect(page.locator("#compare-metrics tbody tr")).to_have_count(1)
    page.go_back()
    expect(page.locator("#compare-metrics tbody tr")).to_have_count(2)


def test_no_page_leads_to_a_dead_end(visit):
    page = visit("/nope")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    page.get_by_role("link", name="Go to the runs").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    page.keyboard.press("n")
    page.wait_for_url("**/new")
