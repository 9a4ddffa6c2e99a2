"""The Landscape tab in a browser: the surface on demand, switches that the address remembers, planes compared."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import card, screenshot

pytestmark = pytest.mark.browser

PLANES = {
    "pairs": [["to:int8", "to:int3"]], "variants": ["FP32", "int3"], "landscapes": ["smooth", "deployed"], "steps": 9,
}  # fmt: skip


def submitted(server, seed: int) -> str:
    return server.submit(
        name=f"landscape {seed}", schemes=["int8", "int3"], seed=seed, analyses={"preset": "quick", "plane": PLANES}
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(server):
    found = [submitted(server, seed) for seed in (0, 1)]
    for run_id in found:
        server.wait_for(run_id, "DONE")
    return found


def test_the_surface_comes_on_demand_and_the_address_remembers_the_view(visit, runs):
    page = visit(f"/runs/{runs[0]}?tab=landscape")
    plane = card(page, "Loss over two directions")
    expect(plane.locator(".main-svg").first).to_be_visible()
    surface = card(page, "The same plane in 3-D")
    expect(surface).not_to_be_visible()
    assert page.locator("canvas").count() == 0, "no WebGL before it is asked for"
    expect(page.get_by_role("region", name="Points")).to_contain_text("int3")
    page.get_by_text("2-D + 3-D", exact=True).click()
    expect(surface).to_be_visible()
    page.locator("#run-loss-scale").get_by_text("linear").click()
    page.locator("#run-plane-landscape").get_by_text("Deployed").click()
    page.wait_for_url(re.compile(r"(?=.*view=both)(?=.*scale=linear)(?=.*plane=deployed)"))
    screenshot(page, "landscape")
    assert page.locator("canvas").count() <= 6
    page.reload()
    expect(surface).to_be_visible()


def test_planes_stand_side_by_side_and_their_difference_beside(visit, runs):
    page = visit(f"/compare?runs={','.join(runs)}&variant=int3")
    expect(card(page, "Planes").locator(".main-svg").first).to_be_visible()
    expect(card(page, "Planes")).to_contain_text("landscape 1")
    expect(card(page, "Planes, difference from the baseline").locator(".main-svg").first).to_be_visible()
