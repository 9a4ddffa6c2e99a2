"""Rows of the runs table, and a selection that filters do not lose."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.pages.runs.rows import age_text, run_rows, shown_variant
from app.pages.runs.selection import merge_selection, shared_tags
from quant_lens_engine.schema import ErrorBody, RunProgress, RunRecord, StageProgress, numbers
from worker.store import RunSummary, VariantSummary

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SPEC = {
    "model": {"example": "digits-mlp"},
    "data": {"example": "digits", "limit": 1024},
    "schemes": ["int8", "int2"],
    "analyses": {"preset": "quick"},
}
VARIANTS = [
    VariantSummary(name="int8", verdict="safe", effective_bits=8.06, sharpness_ratio=1.01, delta_accuracy=0.0),
    VariantSummary(name="int2", verdict="collapsed", effective_bits=2.06, sharpness_ratio=7.96, delta_accuracy=-0.181),
    VariantSummary(name="int3"),
]


def record(**changes: Any) -> RunRecord:
    return RunRecord(id="abc", spec=SPEC, created_at="2026-01-01T11:00:00.000Z", **changes)


def row(summary: RunSummary | None = None, **changes: Any) -> dict[str, Any]:
    summaries = {"abc": summary} if summary else {}
    return run_rows([record(**changes)], summaries, "smallest", NOW)[0]


@pytest.mark.parametrize(("shown", "name"), [("smallest", "int2"), ("smallest-safe", "int8"), ("sharpest", "int2")])
def test_the_variant_that_stands_for_a_run(shown: Any, name: str) -> None:
    chosen = shown_variant(VARIANTS, shown)
    assert chosen is not None
    assert chosen.name == name
    assert shown_variant(VARIANTS[2:], shown) is None, "a variant that is not measured stands for nothing"


def test_numbers_are_written_and_whole() -> None:
    cells = row(RunSummary(id="abc", model="digits-mlp", variants=VARIANTS), state="DONE")
    assert (cells["delta_accuracy"], cells["delta_accuracy_text"]) == (-0.181, "−18.1")
    assert cells["delta_accuracy_title"].startswith("−0.181")
    assert cells["sharpness_ratio_text"] == "7.96 ×"
    assert cells["swatch"]["--fill-light"] == "#584d03"


def test_the_rows_that_were_used_not_those_asked_for() -> None:
    assert f"digits {numbers.count(1024)}" in row()["about"]
    assert "digits 360" in row(RunSummary(id="abc", samples=360))["about"]


def test_a_run_without_numbers_has_none() -> None:
    cells = row()
    assert cells["variant"] is None
    assert cells["sharpness_ratio"] is None
    assert cells["verdicts"] == []
    assert cells["name"] == "abc", "a run without a name is called by its id"


def test_a_running_run_says_what_it_does_and_how_long_still() -> None:
    stage = StageProgress(stage="curvature", variant="int8", state="running", done=25, total=64)
    cells = row(state="RUNNING", progress=RunProgress(fraction=0.44, eta_s=75.0, stages=[stage]))
    assert cells["fraction"] == 0.44
    assert cells["state_note"] == "curvature int8 · 25/64 · 1 min 15 s left"


def test_a_failed_run_says_why() -> None:
    cells = row(state="FAILED", error=ErrorBody(code="x", message="36 keys missing"))
    assert (cells["state_word"], cells["state_note"]) == ("Failed", "36 keys missing")


@pytest.mark.parametrize(
    ("created", "text"),
    [("2026-01-01T11:59:30Z", "now"), ("2026-01-01T11:59:00Z", "1 min"), ("2025-12-30T12:00:00Z", "2 d")],
)
def test_ages(created: str, text: str) -> None:
    assert age_text(created, NOW) == text


def grid_row(run_id: str, tags: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"id": run_id, "name": run_id, "owner": "local", "created_at": "", "tags": list(tags), "active": False}


def ids(selection: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in selection]


def test_a_run_that_a_filter_hides_stays_selected() -> None:
    a, b, c = grid_row("a"), grid_row("b"), grid_row("c")
    selected = merge_selection([], [a, b], [a, b, c])
    assert ids(selected) == ["a", "b"]
    assert ids(merge_selection(selected, [b], [b])) == ["a", "b"], "a is hidden, not unticked"
    assert ids(merge_selection(selected, [b], [a, b, c])) == ["b"], "a is there, and unticked"
    assert ids(merge_selection(selected, {"ids": ["b"]}, [b])) == ["a", "b"], "the grid is being told"


def test_tags_shared_by_all_selected_runs() -> None:
    assert shared_tags([grid_row("a", ("x", "y")), grid_row("b", ("y", "z"))]) == ["y"]
    assert shared_tags([]) == []


def test_whatever_changes_in_a_cell_changes_its_value() -> None:
    """AG Grid draws a cell again only then."""
    stage = StageProgress(stage="curvature", variant="int8", state="running", done=25, total=64)
    before = row(state="RUNNING", progress=RunProgress(fraction=0.44, stages=[stage]))
    further = stage.model_copy(update={"done": 26})
    after = row(state="RUNNING", progress=RunProgress(fraction=0.44, stages=[further]))
    later = run_rows([record()], {}, "smallest", NOW.replace(hour=13))[0]
    assert before["state_key"] != after["state_key"]
    assert row()["age_key"] != later["age_key"]
    known = row(RunSummary(id="abc", model="digits-cnn"))
    assert row()["name_key"] != known["name_key"]
