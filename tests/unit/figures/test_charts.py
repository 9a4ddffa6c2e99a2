"""Every registered chart, on full and on unfinished results; then what each one says."""

import json
import math
from itertools import pairwise

import plotly.graph_objects as go
import pytest

from quant_lens_engine.figures import FIGURES, ComparedResult, FigureError, draw, draw_both
from quant_lens_engine.figures.lines import gather_lines
from quant_lens_engine.figures.loss_axis import log_ticks, loss_axis
from quant_lens_engine.figures.sharpness import gather_sharpness
from quant_lens_engine.figures.tokens import GROUND, MODES
from quant_lens_engine.schema import Band, Line, RunResult
from tests.unit.figures.results import result, usual, variant


def drawn_from(name: str, found: RunResult) -> RunResult | list[ComparedResult]:
    if not FIGURES[name].many:
        return found
    names = [item.name for item in found.variants]
    return [ComparedResult("A", "first", found, names[0] if names else "FP32", baseline=True),
            ComparedResult("B", "second", found, names[-1] if names else "int2")]  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_a_chart_draws_both_modes_and_its_numbers_are_json(name: str) -> None:
    drawing = draw_both(name, drawn_from(name, usual()))
    assert drawing.sentence.endswith(".")
    assert drawing.light is not None
    assert drawing.dark is not None
    for mode, figure in (("light", drawing.light), ("dark", drawing.dark)):
        assert go.Figure(figure).layout.paper_bgcolor == GROUND[mode].surface, "Plotly knows every property"
        json.dumps(figure, allow_nan=False)
    assert drawing.table.rows
    assert all(len(row) == len(drawing.table.columns) for row in drawing.table.rows)
    json.dumps(drawing.table.rows, allow_nan=False)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("found", [RunResult(), result(variant("FP32", None))], ids=["nothing", "float only"])
def test_an_unfinished_result_is_no_reason_to_fail(name: str, found: RunResult) -> None:
    draw(name, drawn_from(name, found))


def test_nothing_to_draw_is_an_empty_figure() -> None:
    assert not draw("sharpness", RunResult()).data
    assert draw_both("lines", RunResult()).light is None


def test_an_unknown_chart_is_named() -> None:
    with pytest.raises(FigureError, match="unknown figure 'sharpnes'"):
        draw("sharpnes", RunResult())


def test_bars_stand_for_lambda_and_its_spread() -> None:
    figure = draw("sharpness", usual())
    (bars,) = figure.data
    assert list(bars.y) == ["FP32", "int8", "int2"]
    assert list(bars.x) == [10.0, 10.2, 40.0]
    assert list(bars.error_x.array) == [0.5, 0.5, 0.5]
    assert figure.layout.xaxis.range[0] <= 0, "bars start at zero"
    assert draw_both("sharpness", usual()).sentence == "int2 4.00 × as sharp; ± over eight shards."
    near = usual()
    near.variant("int8").curvature.lambda_max.value = 10.1  # the error of the mean of eight shards is 0.5 / √8
    words = draw_both("sharpness", near).sentence
    assert words == "int8 within FP32's standard error; int2 4.00 × as sharp; ± over eight shards."


def test_a_bar_that_did_not_converge_says_so() -> None:
    found = result(variant("FP32", 10.0), variant("int2", 40.0, converged=False))
    texts = [note.text for note in draw("sharpness", found).layout.annotations]
    assert ["not converged" in text for text in texts] == [False, True]


def test_variants_without_curvature_yet_are_left_out() -> None:
    data = gather_sharpness(result(variant("FP32", 10.0), variant("int8", None)))
    assert data is not None
    assert [bar.style.name for bar in data.bars] == ["FP32"]


@pytest.mark.parametrize("landscape", ["deployed", "smooth"])
def test_lines_show_the_landscape_that_is_asked_for(landscape: str) -> None:
    found = usual()
    for item in found.variants:
        for line in item.lines:
            line.loss = [value + (5.0 if line.landscape == "deployed" else 0.0) for value in line.loss]  # type: ignore[operator]
    figure = draw("lines", found, landscape=landscape)
    named = {trace.name: trace for trace in figure.data if trace.name}
    assert list(named) == ["FP32", "int8", "int2"]
    assert min(named["FP32"].y) == (6.0 if landscape == "deployed" else 1.0)
    assert named["FP32"].line.dash == "solid"
    assert sum(trace.fill == "toself" for trace in figure.data) == 3, "a band each"


def test_a_single_direction_has_no_band_and_missing_losses_leave_gaps() -> None:
    found = usual()
    found.variants[0].lines = [
        Line(landscape="smooth", alphas=[-1.0, 0.0, 1.0], loss=[2.0, None, 2.0], band=Band(low=[2.0, None, 2.0]))
    ]
    figure = draw("lines", result(found.variants[0]))
    assert not [trace for trace in figure.data if trace.fill == "toself"]
    assert [trace.y for trace in figure.data if trace.name] == [(2.0, None, 2.0)]


def test_every_line_has_a_label_at_its_end_that_covers_no_other() -> None:
    data = gather_lines(usual())
    assert data is not None
    for mode in MODES:
        notes = draw("lines", usual(), mode).layout.annotations
        ends = sorted(10**note.y for note in notes)
        assert ends == pytest.approx(sorted(line.end for line in data.lines)), "a log axis takes exponents"
        low, high = (math.log10(bound) for bound in data.axis.range)
        places = sorted(note.y * 270 / (high - low) - note.ay for note in notes)
        assert min(b - a for a, b in pairwise(places)) >= 14.9


def test_comparison_colours_say_the_variant_and_the_baseline_is_grey() -> None:
    found = usual()
    runs = [ComparedResult("A", "old", found, "int2", baseline=True), ComparedResult("B", "new", found, "int2")]
    old, new = [trace for trace in draw("compare-lines", runs).data if trace.name]
    assert old.line.color == GROUND["light"].muted
    assert old.line.dash == "solid"
    assert new.line.dash == "12px,4px"


def test_a_name_that_someone_typed_is_never_a_link_in_a_chart() -> None:
    found = usual()
    runs = [ComparedResult("A", "<a href='//x'>run</a>", found, "int2", baseline=True)]
    assert "<a" not in draw("compare-lines", runs).to_json().replace("\\u003c", "<")


def test_the_loss_axis_is_logarithmic_only_where_every_loss_is_positive() -> None:
    assert loss_axis([0.1, 10.0, None]).log
    assert not loss_axis([0.0, 10.0]).log
    assert loss_axis([]).range == (0.0, 1.0)
    assert loss_axis([1e-300, 1.0]).range[0] > 1e-9, "at most eight decades"


@pytest.mark.parametrize(("low", "high"), [(0.05, 5.0), (0.9, 1.1), (1e-6, 1e3), (0.07, 0.4), (2.0, 900.0)])
def test_a_log_axis_always_has_ticks_to_read(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 10
    assert ticks == sorted(ticks)
    assert all(low <= tick <= high for tick in ticks)
