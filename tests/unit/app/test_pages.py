"""Routes, the theme's sheet, and what a comparison chooses to show."""

import re

import pytest

from app.compare import ComparedValue
from app.components.icon import ICONS, icon_sheet
from app.components.top_bar import server_status
from app.pages.compare.choice import default_choice, pick_variant, variant_choices
from app.pages.compare.tables import delta_text
from app.routing import Page, find_pages, route
from app.theme import mantine_theme, token_sheet
from quant_lens_engine.figures import METRICS
from quant_lens_engine.figures.tokens import GROUND, VERDICTS
from quant_lens_engine.schema import WorkerFacts
from tests.unit.figures.results import result, usual, variant


def test_every_page_has_its_own_address() -> None:
    pages = find_pages()
    assert {"runs", "new", "run", "compare", "help"} <= {page.name for page in pages}
    assert len({page.path for page in pages}) == len(pages)
    for path, name, params in (
        ("/", "runs", {}),
        ("/compare/", "compare", {}),
        ("/runs/7f3a91c", "run", {"run_id": "7f3a91c"}),
    ):
        found = route(pages, path)
        assert found is not None, path
        assert (found[0].name, found[1]) == (name, params)
    assert route(pages, "/runs/a/b") is None
    assert route(pages, "/nope") is None


def test_a_path_is_no_pattern() -> None:
    page = Page(name="x", path="/a.b", title="", layout=lambda _: None)  # type: ignore[arg-type, return-value]
    assert page.match("/a.b") == {}
    assert page.match("/aXb") is None


def test_the_sheet_holds_every_token_of_both_modes() -> None:
    sheet = token_sheet()
    for mode, ground in GROUND.items():
        part = re.search(rf'\[data-mantine-color-scheme="{mode}"\]\{{(.*?)\}}', sheet)
        assert part is not None
        for name, value in ground.css().items():
            assert f"{name}:{value}" in part[1]
        for level in VERDICTS:
            assert f"--{level}:{VERDICTS[level][mode].text}" in part[1]
    assert mantine_theme()["colors"]["iris"][7] == GROUND["light"].accent


def test_every_icon_is_drawn_and_no_drawing_breaks_out_of_its_rule() -> None:
    sheet = icon_sheet()
    for name in (*ICONS, "verdict-safe", "verdict-collapsed"):
        assert f".icon-{name}{{" in sheet
    assert sheet.count("{") == sheet.count("}") == sheet.count('url("')


def test_the_status_counts_workers_of_runs_only() -> None:
    def words(workers: list[WorkerFacts], queued: int = 0) -> str:
        return str(server_status(workers, queued)[1].children)

    runner = WorkerFacts(id="a", queues=["runs"], devices=["cpu"])
    assert words([WorkerFacts(id="b", queues=["inspect"])]) == "no worker: runs wait"
    assert words([runner, WorkerFacts(id="b", queues=["inspect"])]) == "1 worker · idle"
    busy = WorkerFacts(id="c", queues=["runs"], devices=["cuda:0"], run_id="x")
    assert words([runner, busy], 3) == "2 workers · 1 GPU · 1 busy · 3 queued"
    walled = WorkerFacts(id="d", queues=["runs"], refuses_uploads="the sandbox lacks seccomp")
    assert words([walled]) == "1 worker · idle · uploads refused"
    assert words([walled, runner]) == "2 workers · idle"


def test_runs_with_different_schemes_of_a_class_are_compared_by_class() -> None:
    one = result(variant("FP32", 10.0), variant("int8", 10.0), variant("int4-g32", 11.0))
    other = result(variant("FP32", 10.0), variant("int4-g128", 12.0))
    choices = variant_choices([one, other])
    assert [choice.value for choice in choices] == ["FP32", "int8", "4-bit", "int4-g128", "int4-g32"]
    assert default_choice(choices) == "4-bit"
    assert [pick_variant(item, "4-bit").name for item in (one, other)] == ["int4-g32", "int4-g128"]  # type: ignore[union-attr]
    assert pick_variant(other, "int8") is None


def test_runs_with_the_same_schemes_are_compared_by_name() -> None:
    choices = variant_choices([usual(), usual()])
    assert [choice.value for choice in choices] == ["FP32", "int8", "int2"]
    assert default_choice(choices) == "int2"


@pytest.mark.parametrize(
    ("key", "delta", "reference", "text"),
    [
        ("lambda_max", -10.0, 40.0, "−25.0 %"),
        ("loss", 0.0123, 1.0, "+0.0123"),
        ("size_bytes", 12_000.0, 1.0, "+12.0 kB"),
        ("accuracy", -0.006, 0.9, "−0.600"),
        ("loss", 0.0, 1.0, "0"),
    ],
)
def test_differences_are_written_as_the_metric_says(key: str, delta: float, reference: float, text: str) -> None:
    written = delta_text(METRICS[key], ComparedValue(delta=delta), reference)
    assert written.replace("\u2009", " ") == text
