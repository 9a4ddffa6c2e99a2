"""The Landscape tab in a browser: the surface on demand, switches that the address remembers, planes compared."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PATIENCE_MS, card, screenshot, wait_until

pytestmark = pytest.mark.browser

PLANES = {
    "pairs": [["to:int8", "to:int3"]], "variants": ["FP32", "int3"], "landscapes": ["smooth", "deployed"], "steps": 9,
}  # fmt: skip
MOST_CONTEXTS = 6
COUNT_CONTEXTS = """
  const made = [];
  const plain = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    const context = plain.call(this, kind, ...rest);
    if (/webgl/.test(kind) && context && !made.includes(context)) made.push(context);
    return context;
  };
  window.liveContexts = () => made.filter((context) => context.canvas.isConnected && !context.isContextLost()).length;
  window.contextsEver = () => made.length;
"""
"""Every WebGL context that the page makes, on a canvas in the document or not."""


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


def drawn(page: Page, title: str) -> Locator:
    """The card of a chart, once it is drawn: a busy machine takes a while for the first."""
    found = card(page, title)
    expect(found.locator(".main-svg").first).to_be_visible(timeout=PATIENCE_MS)
    return found


def settled(page: Page) -> None:
    """Wait until Dash has asked for nothing for half a second; the network itself may never be idle for so long on a
    busy machine, for the clock in the top bar asks too."""
    page.wait_for_function(
        """() => {
          const busy = window.store.getState().isLoading;
          window.idleSince = busy ? undefined : window.idleSince ?? performance.now();
          return !busy && performance.now() - window.idleSince > 500;
        }""",
        timeout=PATIENCE_MS,
    )


def cameras(page: Page) -> list[dict[str, Any]]:
    """Where the eye of each scene is as it is drawn, whatever the layout knows of it."""
    return page.evaluate("""() => {
      const layout = document.querySelector('.chart-card.linked-cameras .js-plotly-plot')._fullLayout;
      const scenes = Object.keys(layout).filter((key) => /^scene[0-9]*$/.test(key));
      return scenes.map((key) => layout[key]._scene.getCamera().eye);
    }""")


def together(eyes: list[dict[str, Any]]) -> bool:
    return all(eye == pytest.approx(eyes[0], abs=1e-3) for eye in eyes)


def test_the_surface_comes_on_demand_and_the_address_remembers_the_view(visit, runs):
    page = visit(f"/runs/{runs[0]}?tab=landscape")
    drawn(page, "Loss over two directions")
    surface = card(page, "The same plane in 3-D")
    expect(surface).not_to_be_visible()
    assert page.locator("canvas").count() == 0, "no WebGL before it is asked for"
    expect(page.get_by_role("region", name="Points")).to_contain_text("int3")
    page.get_by_text("2-D + 3-D", exact=True).click()
    expect(surface).to_be_visible()
    screenshot(page, "landscape")
    page.locator("#run-loss-scale").get_by_text("linear").click()
    page.locator("#run-plane-landscape").get_by_text("Deployed").click()
    page.wait_for_url(re.compile(r"(?=.*view=both)(?=.*scale=linear)(?=.*plane=deployed)"))
    page.reload()
    expect(surface).to_be_visible(timeout=PATIENCE_MS)


def test_the_read_out_follows_the_pointer_and_the_arrow_keys_without_the_server(visit, runs):
    page = visit(f"/runs/{runs[0]}?tab=landscape")
    plane = drawn(page, "Loss over two directions")
    settled(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data or request.url))
    plane.locator(".chart-body").focus()
    page.keyboard.press("ArrowRight")
    told = plane.locator(".read-out")
    expect(told).to_contain_text(
        re.compile(r"At the cursor.*α.*β 0\b.*L [\d.]+ nats.*ΔL.*accuracy [\d.]+ %.*from FP32")
    )
    before = told.inner_text()
    page.keyboard.press("ArrowUp")
    expect(told).not_to_have_text(before)
    page.wait_for_function(  # Plotly hovers at most every 50 ms
        """() => {
          const card = document.querySelector('.ql-at-plane');
          const [hovered] = card.querySelector('.js-plotly-plot')._hoverdata ?? [];
          const [column, row] = card.querySelector('.chart-body').dataset.at.split(',').map(Number);
          return hovered?.curveNumber === 0 && String(hovered.pointNumber) === String([row, column]);
        }"""
    )  # the box is the grid's, not the nearest marker's
    box = plane.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40, steps=4)
    expect(told).to_contain_text("α −")
    assert not [what for what in asked if "server-status" not in what], "but for the clock in the top bar"


def test_the_loss_is_cut_in_the_drawing_only_and_the_page_says_so(visit, runs):
    page = visit(f"/runs/{runs[0]}?tab=landscape")
    plane = drawn(page, "Loss over two directions")
    highest = """() => Math.max(
      ...document.querySelector('.ql-at-plane .js-plotly-plot').data[0].customdata.flat().map((told) => told[0]))"""
    page.wait_for_function("() => document.querySelector('.ql-at-plane .js-plotly-plot').data?.[0]?.customdata")
    whole = page.evaluate(highest)
    page.locator("#run-plane-clip").fill(f"{whole / 2:.3g}")
    expect(plane).to_contain_text(
        re.compile(r"Drawn up to L = [\d.]+; \d+ of 81 points are higher, their values untouched")
    )
    assert page.evaluate(highest) == whole, "hovering still tells the loss itself"
    page.wait_for_url(re.compile(r"clip="))
    page.get_by_role("checkbox", name="isolines").uncheck()
    page.wait_for_url(re.compile(r"show=points,path|show=points%2Cpath"))


def test_lines_are_drawn_by_their_own_switches(visit, runs):
    page = visit(f"/runs/{runs[0]}?tab=landscape")
    lines = drawn(page, "Loss along one direction")
    expect(lines).to_contain_text("Reach ")
    page.locator("#run-quantity").get_by_text("Accuracy").click()
    expect(lines.locator(".g-ytitle")).to_contain_text("accuracy")
    page.locator("#run-line-landscape").get_by_text("Deployed").click()
    expect(lines).to_contain_text("Quantized anew at every α")
    page.wait_for_url(re.compile(r"(?=.*quantity=accuracy)(?=.*lines=deployed)"))


def test_planes_stand_side_by_side_and_their_difference_beside(visit, runs):
    page = visit(f"/compare?runs={','.join(runs)}&variant=int3")
    drawn(page, "Planes")
    expect(card(page, "Planes")).to_contain_text("landscape 1")
    expect(card(page, "Planes, difference from the baseline").locator(".main-svg").first).to_be_visible()


def test_surfaces_turn_and_zoom_together_in_at_most_six_contexts(visit, runs, server):
    others = [submitted(server, 0) for _ in range(5)]  # from the store
    for run_id in others:
        server.wait_for(run_id, "DONE")
    page = visit("/")
    page.add_init_script(COUNT_CONTEXTS)
    page.goto(f"/compare?runs={','.join([*runs, *others])}&variant=int3")
    planes = drawn(page, "Planes")
    assert page.evaluate("contextsEver()") == 0
    planes.get_by_text("3-D", exact=True).click()
    expect(planes.locator("canvas").nth(4)).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_url(re.compile("planes=surface"))
    first = planes.locator("canvas").first.bounding_box()
    start = cameras(page)
    assert len(start) == 5
    x, y = first["x"] + first["width"] / 2, first["y"] + first["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 20, steps=6)
    # The pointer is still down; a scene's camera is where it was led with its next frame.
    wait_until(page, lambda: together(cameras(page)) and cameras(page)[0] != pytest.approx(start[0], abs=1e-3))
    moved = cameras(page)
    page.mouse.up()
    page.wait_for_function("() => liveContexts() <= 6")
    with page.expect_download(timeout=PATIENCE_MS):  # five surfaces are drawn once more, by the processor
        planes.get_by_role("button", name="Export Planes").click()
        page.get_by_role("menuitem", name="PNG picture").click(timeout=PATIENCE_MS)
    assert page.evaluate("contextsEver()") <= MOST_CONTEXTS
    planes.locator(".chart-body").focus()
    page.keyboard.press("+")
    nearer = cameras(page)
    assert together(nearer)
    assert sum(value**2 for value in nearer[0].values()) < sum(value**2 for value in moved[0].values())
    expect(planes.locator(".js-plotly-plot.turning")).to_have_count(0)
    expect(planes.locator("[class*='annotation-scene']").first).to_be_visible()  # names are back where it rests
    other = planes.locator("canvas").nth(1).bounding_box()
    page.mouse.move(other["x"] + other["width"] / 2, other["y"] + other["height"] / 2, steps=3)
    # And so is what lies below the pointer.
    expect(planes.locator(".hovertext").first).to_be_visible(timeout=PATIENCE_MS)
    screenshot(page, "compare-3d")


def test_a_surface_makes_one_turn_as_a_film_or_is_cancelled(visit, runs, tmp_path):
    # Small, for a processor draws all sixty pictures here.
    page = visit(f"/runs/{runs[0]}?tab=landscape&view=both", viewport={"width": 720, "height": 560})
    surface = drawn(page, "The same plane in 3-D")
    expect(surface.locator("canvas").first).to_be_visible(timeout=PATIENCE_MS)

    def start() -> None:
        surface.get_by_role("button", name="Export The same plane in 3-D").click()
        page.get_by_role("menuitem", name="WebM animation, one turn").click()

    start()
    # A click, without the wait for two frames at rest: while pictures are taken there may be none for long.
    surface.get_by_role("button", name="Cancel").dispatch_event("click")
    expect(surface.locator("progress")).to_have_count(0, timeout=PATIENCE_MS)
    with page.expect_download(timeout=2 * PATIENCE_MS) as download:
        start()
        expect(surface.locator("progress")).to_be_visible()
    film = tmp_path / "turn.webm"
    download.value.save_as(film)
    assert download.value.suggested_filename.endswith(".webm")
    assert film.read_bytes()[:4] == b"\x1a\x45\xdf\xa3", "Matroska's mark"
    player = page.context.new_page()  # an empty one: the policy of ours lets nothing play
    pictures = player.evaluate(FILM, list(film.read_bytes()))
    assert pictures["width"] > 300
    assert pictures["differ"], "the surface has turned between the first picture and a later one"


FILM = """
  async (bytes) => {
    const video = document.createElement("video");
    video.muted = true;
    video.src = URL.createObjectURL(new Blob([new Uint8Array(bytes)], { type: "video/webm" }));
    await new Promise((resolve, reject) => Object.assign(video, { onloadeddata: resolve, onerror: reject }));
    const picture = () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
      const brush = canvas.getContext("2d");
      brush.drawImage(video, 0, 0, 64, 64);
      return [...brush.getImageData(0, 0, 64, 64).data];
    };
    const first = picture();
    await new Promise((resolve) => { video.ontimeupdate = () => video.currentTime > 1.5 && resolve(); video.play(); });
    const later = picture();
    const differ = first.filter((value, place) => Math.abs(value - later[place]) > 30).length > 100;
    return { width: video.videoWidth, differ };
  }
"""
