"""Frames a second of planes of 41 × 41 while they are dragged, in headless Chromium: ``python -m benchmarks.frames``.

The figures are those of the pages, with the script that links their cameras; the page around them is left out. It
draws in software: the figures say what our part costs, not what a graphics card does. Of each case stand the frames
that the browser made (``requestAnimationFrame``), those in which every panel was drawn anew, the share of the time
that tasks of over 50 ms took, and the processor time of the page's own thread (scripts, styles, layout) for each of
the latter frames: 60 a second leave it 16.7 ms. What WebGL draws is drawn in another process and not in it. The figures
mean nothing on a machine that has other work: the load stands beside each.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import plotly
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from benchmarks.workload import record
from quant_lens_engine.figures import ComparedResult, draw_both
from quant_lens_engine.schema import DataFacts, Evaluation, ModelFacts, Plane, PlanePoint, RunResult, Variant

POINTS, PANELS, SECONDS = 41, 4, 6.0
CAMERAS = Path(__file__).parents[1] / "app" / "assets" / "cameras.js"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
COUNT = """
  window.tally = { frames: 0, draws: new Map(), busy: 0, on: false };
  const step = () => { if (tally.on) tally.frames += 1; requestAnimationFrame(step); };
  requestAnimationFrame(step);
  for (const kind of [WebGLRenderingContext, WebGL2RenderingContext]) {
    for (const name of ["drawArrays", "drawElements"]) {
      const plain = kind.prototype[name];
      kind.prototype[name] = function (...given) {
        if (tally.on) {
          if (!tally.draws.has(this)) tally.draws.set(this, new Set());
          tally.draws.get(this).add(tally.frames);
        }
        return plain.apply(this, given);
      };
    }
  }
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (tally.on) tally.busy += entry.duration;
  }).observe({ type: "longtask" });
"""
START = """() => Object.assign(tally, {
  frames: 0, busy: 0, draws: new Map(), started: performance.now(), on: true,
})"""


def result(lift: float) -> RunResult:
    """A bent valley of 41 × 41 with three models on it."""
    grid = [-0.5 + index / (POINTS - 1) for index in range(POINTS)]
    plane = Plane(
        landscape="smooth", directions=["to:int8", "to:int4"], origin="FP32", units=["‖w‖", "‖w‖"], isometric=True,
        alphas=grid, betas=grid, distance=0.5, measured_rows=list(range(POINTS)),
        loss=[[0.2 + lift + 8 * (a + 0.4 * b) ** 2 + 3 * (b - a * a) ** 2 + 0.05 * math.sin(9 * a) for b in grid]
              for a in grid],
        points=[PlanePoint(name="FP32", alpha=0.0, beta=0.0, distance=0.0, loss=0.2 + lift),
                PlanePoint(name="int4", alpha=0.1, beta=0.2, distance=0.0, loss=0.5 + lift)],
    )  # fmt: skip
    evaluation = Evaluation(loss=0.2 + lift, samples=POINTS)
    return RunResult(
        model=ModelFacts(architecture="a bent valley"), data=DataFacts(samples=POINTS),
        variants=[Variant(name="FP32", evaluation=evaluation, planes=[plane])],
    )  # fmt: skip


def figures() -> dict[str, Any]:
    """What is drawn in each case, in the light mode."""
    runs = [ComparedResult(letter, f"run {letter}", result(0.05 * place), "FP32", letter == "A")
            for place, letter in enumerate("ABCD"[:PANELS])]  # fmt: skip
    return {
        "Compare, 4 surfaces, turned": draw_both("compare-planes", runs, view="surface").light,
        "Compare, 4 contours, panned": draw_both("compare-planes", runs).light,
        "Landscape, one surface, turned": draw_both("plane-surface", runs[0].result).light,
        "Landscape, one contour, panned": draw_both("plane", runs[0].result).light,
    }


def drag(page: Page, case: str, figure: dict[str, Any]) -> dict[str, Any]:
    """Frames while the pointer goes to and fro over the first panel for some seconds."""
    panels = PANELS if case.startswith("Compare") else 1
    width, height = (1180, 380) if panels > 1 else (560, 560)
    page.set_content(
        "<div class='chart-card linked-cameras'><div class='chart-body' tabindex=0><div id=plot></div></div></div>"
    )
    page.add_script_tag(path=PLOTLY)
    page.add_script_tag(path=CAMERAS)
    page.evaluate(
        "([figure, width, height]) => Plotly.newPlot('plot', figure.data, {...figure.layout, width, height},"
        " {displayModeBar: false, scrollZoom: true})",
        [figure, width, height],
    )
    page.wait_for_timeout(1500)
    x, y = (0.15 * width, 0.55 * height) if panels > 1 else (0.5 * width, 0.5 * height)
    page.mouse.move(x, y)
    page.mouse.down()
    thread = page.context.new_cdp_session(page)
    thread.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.evaluate(START)
    moves, before = 0, busy_seconds(thread)
    while page.evaluate("performance.now() - tally.started") < 1000 * SECONDS:
        for _ in range(8):
            moves += 1
            page.mouse.move(x + 50 * math.sin(moves / 9), y + 25 * math.cos(moves / 11))
    told = page.evaluate("""() => {
      tally.on = false;
      const seconds = (performance.now() - tally.started) / 1000;
      const drawn = [...tally.draws.values()].map((frames) => frames.size);
      return { seconds, frames: tally.frames, busy: tally.busy, drawn, panels: tally.draws.size };
    }""")
    busy = busy_seconds(thread) - before
    page.mouse.up()
    rate = told["frames"] / told["seconds"]
    return {
        "case": case,
        "frames / s": rate,
        "every panel drawn anew / s": min(told["drawn"]) / told["seconds"] if told["drawn"] else None,
        "page's thread, CPU ms / such a frame": 1000 * busy / (min(told["drawn"]) if told["drawn"] else told["frames"]),
        "moves of the pointer / s": moves / told["seconds"],
        "share of the time in tasks over 50 ms": told["busy"] / 1000 / told["seconds"],
        "WebGL contexts": told["panels"],
    }


def busy_seconds(thread: CDPSession) -> float:
    """Processor time that the page's own thread has spent in tasks."""
    metrics = thread.send("Performance.getMetrics")["metrics"]
    return next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")


def opened(browser: Browser) -> Page:
    """A page with the counters."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(COUNT)
    page.goto("about:blank")
    return page


def main() -> None:
    """Every case, one page each."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        version = browser.version
        for case, figure in figures().items():
            page = opened(browser)
            rows.append({**drag(page, case, json.loads(json.dumps(figure))), "load": os.getloadavg()[0]})
            page.close()
        browser.close()
    record(
        "frames",
        rows,
        points=POINTS,
        panels=PANELS,
        seconds=SECONDS,
        chromium=version,
        drawn_by="SwiftShader, software",
    )


if __name__ == "__main__":
    main()
