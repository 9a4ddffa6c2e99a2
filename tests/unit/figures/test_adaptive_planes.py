"""Planes of which some losses are interpolated: every form of them says which, and how well."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quant_lens_engine.figures import ComparedResult, draw, draw_both
from quant_lens_engine.schema import RunResult
from tests.unit.figures.results import plane, usual

SOME = [[place == 1 and other in (1, 3) for other in range(5)] for place in range(5)]
ACCURACY = [[None if estimated else 0.9 for estimated in row] for row in SOME]
WORDS = "23 points were measured; 2 of 25 points are interpolated along β, within about 1.8 % of the loss by 7 checks."
METHOD = "batch normalisation is folded into 5 layers, which changes the loss at the origin by 1.0e-07"


def adaptive(**changes: Any) -> RunResult:
    found = usual()
    known = {"estimated": SOME, "estimate_error": 0.018, "estimate_checks": 7, "accuracy": ACCURACY} | changes
    found.variants[0].planes = [plane("smooth", 0.0).model_copy(update=known)]
    return found


def full() -> RunResult:
    found = usual()
    found.variants[0].planes = [plane("smooth", 0.0)]
    return found


def compared(*results: RunResult) -> list[ComparedResult]:
    return [
        ComparedResult(letter, f"run {letter}", found, "FP32", letter == "A")
        for letter, found in zip("AB", results, strict=True)
    ]


@pytest.mark.parametrize("name", ["plane", "plane-surface", "plane-overview"])
def test_the_sentence_says_how_many_points_were_measured_and_how_well_the_others_are_foretold(name: str) -> None:
    assert WORDS in draw_both(name, adaptive()).sentence
    for plain in (full(), adaptive(estimated=None, estimate_error=None, estimate_checks=0)):
        assert "interpolated" not in draw_both(name, plain).sentence


@pytest.mark.parametrize("name", ["plane", "plane-surface"])
def test_hover_says_interpolated_where_the_loss_is_and_makes_up_no_accuracy(name: str) -> None:
    trace = draw(name, adaptive()).data[0]
    assert "%{customdata[5]}" in trace.hovertemplate
    assert "customdata[2]" not in trace.hovertemplate, "Plotly writes a null with a format as 0"
    assert list(trace.customdata[1][1][4:]) == ["interpolated", "interpolated"], "β upwards, α to the right"
    assert list(trace.customdata[1][0][4:]) == ["", "accuracy 90 %"]
    assert trace.customdata[1][1][2] is None


def test_where_there_is_no_accuracy_a_measured_point_is_said_to_be() -> None:
    assert list(draw("plane", adaptive(accuracy=None)).data[0].customdata[0][0][4:]) == ["", "measured"]


def test_a_plane_that_was_measured_in_full_needs_no_such_word() -> None:
    trace = draw("plane", full()).data[0]
    assert len(trace.customdata[0][0]) == 4
    assert "interpolated" not in json.dumps(draw_both("plane", full()).light)
    assert "source" not in draw_both("plane", full()).table.columns


def test_the_table_tells_measured_from_interpolated() -> None:
    table = draw_both("plane", adaptive()).table
    assert table.columns[-1] == "source"
    foretold = [row[:2] for row in table.rows if row[-1] == "interpolated"]
    assert foretold == [(-0.5, -0.5), (-0.5, 0.5)]
    assert sum(row[-1] == "measured" for row in table.rows) == 23


def test_side_by_side_every_row_has_a_source_and_every_run_its_sentence() -> None:
    drawing = draw_both("compare-planes", compared(full(), adaptive()))
    assert f"B: {WORDS}" in drawing.sentence
    assert drawing.table.columns[-1] == "source"
    assert {len(row) for row in drawing.table.rows} == {len(drawing.table.columns)}
    assert sum(row[-1] == "interpolated" for row in drawing.table.rows) == 2


@pytest.mark.parametrize("pair", [(full, adaptive), (adaptive, full)])
def test_a_difference_from_an_interpolated_loss_says_so(pair: Any) -> None:
    base, other = pair
    runs = compared(base(), other())
    drawing = draw_both("compare-plane-difference", runs)
    letter = "B" if other is adaptive else "A"
    assert f"of {letter} 2 of 25 points are interpolated along β, within about 1.8 %" in drawing.sentence
    source = drawing.table.columns.index("source")
    assert [row[1:3] for row in drawing.table.rows if row[source] == "interpolated"] == [(-0.5, -0.5), (-0.5, 0.5)]
    trace = draw("compare-plane-difference", runs).data[0]
    assert (trace.customdata[1][1], trace.customdata[1][0]) == ("interpolated", "measured")
    assert "%{customdata}" in trace.hovertemplate


def test_a_difference_of_measured_planes_has_no_such_words() -> None:
    drawing = draw_both("compare-plane-difference", compared(full(), full()))
    assert "interpolated" not in drawing.sentence
    assert {row[drawing.table.columns.index("source")] for row in drawing.table.rows} == {"measured"}
    assert draw("compare-plane-difference", compared(full(), full())).data[0].customdata is None


def test_what_made_losses_quicker_to_compute_stands_beneath_plane_and_lines() -> None:
    assert draw_both("plane", adaptive(method=METHOD)).note.endswith(f"B{METHOD[1:]}.")
    assert "folded" not in draw_both("plane", adaptive()).note
    found = usual()
    for item in found.variants[:2]:
        item.lines = [line.model_copy(update={"method": METHOD}) for line in item.lines]
    assert draw_both("lines", found).note.endswith(f"FP32, int8: {METHOD}.")
