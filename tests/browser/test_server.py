"""The Server page of a real server: workers with their walls, storage, formats; nothing cut off, in both themes."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import screenshot

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_server_says_who_works_within_which_walls(visit, scheme):
    page = visit("/server", color_scheme=scheme, viewport={"width": 1280, "height": 900})
    workers = page.get_by_role("region", name="Workers")
    expect(workers.locator("tbody tr")).to_have_count(2)
    expect(workers).to_contain_text("fresh process")
    expect(workers).to_contain_text("limits")
    for title in ("Queue", "Storage", "Formats", "Versions and limits"):
        expect(page.get_by_role("region", name=title, exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="Formats")).to_contain_text(".safetensors")
    expect(page.get_by_role("link", name="Server")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 1280
    screenshot(page, f"server-{scheme}")
