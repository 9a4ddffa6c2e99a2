"""The charts of the spectrum hold what the record holds."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_lens_engine.figures import FIGURES, METRICS, ComparedResult, draw, draw_both, html_report
from quant_lens_engine.figures.density import gather_density
from quant_lens_engine.figures.lambda_axis import lambda_axis
from quant_lens_engine.figures.layer_curvature import MOST_LAYERS
from quant_lens_engine.figures.tokens import GROUND, MODES
from quant_lens_engine.schema import Eigenvalue, LayerCurvature, TraceEstimate, Variant
from tests.unit.figures.results import result, usual, variant


def test_eigenvalues_that_may_be_missing_are_spoken_of() -> None:
    found = usual()
    assert "may be missing" not in draw_both("eigenvalues", found).sentence
    found.variants[0].curvature.complete = False
    assert f"may be missing: {found.variants[0].name}." in draw_both("eigenvalues", found).sentence


def test_a_regression_is_not_in_nats() -> None:
    """Every axis and every head of a column says the loss' own unit."""
    regression = usual().model_copy(update={"task": "regression"})
    said = str([draw(name, regression).to_dict() for name in FIGURES if not name.startswith("compare")])
    assert "loss units" in said
    assert "nats" not in said
    assert "nats" not in html_report(regression).partition("<script")[0]
    assert METRICS["loss"].of("regression").head == "Loss L"
    assert METRICS["loss"].of("classification").head == "Loss L (nats)"


def test_a_density_is_drawn_as_it_was_measured_with_its_band() -> None:
    figure = draw("density", usual())
    named = {trace.name: trace for trace in figure.data if trace.name}
    assert list(named) == ["FP32", "int8", "int2"]
    assert named["FP32"].y == (0.1, 5.0, None, 0.002), "a zero has no place on a log axis"
    assert named["FP32"].line.dash == "solid"
    assert sum(trace.fill == "toself" for trace in figure.data) == 3
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.xaxis.range[1] >= 40.0
    assert figure.layout.xaxis.range[0] <= -0.5
    assert draw("density", usual(), scale="linear").layout.yaxis.type == "linear"


def test_the_log_axis_of_a_density_ends_where_a_single_eigenvalue_would_be_lost() -> None:
    data = gather_density(usual())
    assert data is not None
    single = 1 / (2410 * 0.1 * math.sqrt(2 * math.pi))
    assert data.y_range[0] == pytest.approx(0.1 * single)


def test_a_log_axis_of_both_signs_says_the_eigenvalues_themselves() -> None:
    figure = draw("density", usual(), horizontal="symlog")
    axis, data = figure.layout.xaxis, gather_density(usual(), horizontal="symlog")
    assert data is not None
    assert "linear within ±" in axis.title.text
    assert "0" in axis.ticktext
    assert any(text.startswith("−") for text in axis.ticktext)
    assert list(axis.tickvals) == sorted(axis.tickvals)
    for tick, text in zip(axis.tickvals, axis.ticktext, strict=True):
        assert data.axis.place(float(text.replace("−", "-"))) == pytest.approx(tick, rel=0.02, abs=1e-9)
    curve = next(trace for trace in figure.data if trace.name == "FP32")
    assert [data.axis.place(x) for x in curve.customdata] == pytest.approx(list(curve.x))
    assert "areas compare on the linear axis only" in draw_both("density", usual(), horizontal="symlog").sentence
    assert draw_both("density", usual(), horizontal="symlog").table == draw_both("density", usual()).table


@given(st.floats(-1e4, -1e-3), st.floats(1e-3, 1e4), st.floats(1e-6, 10.0))
def test_ticks_of_a_log_axis_never_meet_and_go_up(low: float, high: float, width: float) -> None:
    axis = lambda_axis("symlog", low, high, [width])
    shares = [axis.share(tick) for tick in axis.ticks]
    assert 0.0 in axis.ticks
    assert all(0 <= share <= 1 for share in shares)
    assert all(after - before >= 0.05 for before, after in pairwise(shares))


def test_an_unknown_axis_is_the_usual_one() -> None:
    data = gather_density(usual(), scale="up", horizontal="down")  # type: ignore[arg-type]
    assert data is not None
    assert (data.scale, data.horizontal) == ("log", "linear")


def test_labels_of_a_density_stand_at_the_largest_eigenvalues_in_ink() -> None:
    data = gather_density(usual())
    assert data is not None
    for mode in MODES:
        notes = draw("density", usual(), mode).layout.annotations
        assert sorted(note.x for note in notes) == [10.0, 10.2, 40.0]
        assert {note.font.color for note in notes} == {curve.style.ink[mode] for curve in data.curves}


def test_the_sentence_of_a_density_counts_and_says_what_the_band_is() -> None:
    words = draw_both("density", usual()).sentence.replace("\u2009", " ")
    assert (
        words == "FP32: about 24 (10 to 50 at 95 %) of 2 410 λ are clearly negative. Band: 95 % over 4 random starts."
    )


def test_eigenvalues_carry_their_intervals_and_negative_ones_run_downwards() -> None:
    figure = draw("eigenvalues", usual())
    top = next(trace for trace in figure.data if trace.name == "FP32" and trace.yaxis == "y")
    low = next(trace for trace in figure.data if trace.name == "FP32" and trace.yaxis == "y2")
    assert top.y == (10.0, 5.0)
    assert top.error_y.array == pytest.approx((1.0, 0.5))
    assert low.y == (0.2, 0.1), "the axis of negative values shows |λ|"
    assert low.error_y.array == pytest.approx((0.2, 0.1)), "the lower end lies further out"
    assert figure.layout.yaxis2.range[0] > figure.layout.yaxis2.range[1]
    assert all(text.startswith("−") for text in figure.layout.yaxis2.ticktext)
    rows = draw_both("eigenvalues", usual()).table.rows
    assert ("FP32", "smallest", 1, -0.2, -0.4, -0.2, None, 0.95) in rows


def test_ticks_of_nearly_equal_eigenvalues_differ() -> None:
    found = result(variant("FP32", 8.8791), variant("int8", 8.9088))
    for item in found.variants:
        assert item.curvature is not None
        item.curvature.largest = [Eigenvalue(value=item.curvature.lambda_max.value)]
    words = draw("eigenvalues", found).layout.yaxis.ticktext
    assert len(set(words)) == len(words) >= 3


def test_an_interval_that_reaches_zero_is_drawn_on_a_linear_axis() -> None:
    found = result(variant("FP32", 10.0))
    assert found.variants[0].curvature is not None
    found.variants[0].curvature.smallest = [Eigenvalue(value=0.003, lower=-4.0, upper=0.003)]
    axis = draw("eigenvalues", found).layout.yaxis2
    assert axis.type == "linear"
    assert axis.range[0] < -4.0


def test_one_process_without_a_bound_makes_all_show_residuals() -> None:
    found = usual()
    assert found.variants[1].curvature is not None
    for step in found.variants[1].curvature.convergence:
        step.highest_bound = None
    figure = draw("convergence", found)
    assert "residual" in figure.layout.yaxis.title.text
    assert figure.data[0].y[0] == 5.0


def test_convergence_is_the_distance_of_bound_and_value_down_to_rounding() -> None:
    figure = draw("convergence", usual())
    line = figure.data[0]
    assert line.x == (1, 2, 3)
    assert line.y == pytest.approx((5.0, 0.1, 1e-6))
    assert draw_both("convergence", usual()).sentence == "Down to rounding after 3 products."


def test_convergence_without_a_bound_shows_the_residual() -> None:
    found = usual()
    for item in found.variants:
        assert item.curvature is not None
        for step in item.curvature.convergence:
            step.highest_bound = None
    figure = draw("convergence", found)
    assert "residual" in figure.layout.yaxis.title.text
    assert figure.data[0].y[0] == 5.0


def test_what_did_not_converge_is_named() -> None:
    found = result(variant("FP32", 10.0), variant("int2", 40.0, converged=False))
    assert draw_both("convergence", found).sentence.startswith("Not converged: int2.")


@pytest.mark.parametrize(("measure", "values"), [
    ("trace", (60.0, 30.0)), ("lambda", (30.0, 15.0)), ("per-parameter", (0.6, 0.3)),
])  # fmt: skip
def test_layers_are_sorted_and_measured_as_asked(measure: str, values: tuple[float, ...]) -> None:
    figure = draw("layer-curvature", usual(), measure=measure)
    assert [bars.name for bars in figure.data] == ["FP32", "int8", "int2"]
    assert figure.data[0].y == ("fc2", "fc1")
    assert figure.data[0].x == pytest.approx(values)


def test_many_layers_are_all_in_the_table_and_the_largest_in_the_chart() -> None:
    found = result(variant("FP32", 10.0))
    assert found.variants[0].curvature is not None
    found.variants[0].curvature.layers = [
        LayerCurvature(name=f"layer{n}", parameters=10, trace=TraceEstimate(value=float(n + 1))) for n in range(40)
    ]
    drawing = draw_both("layer-curvature", found)
    assert len(drawing.table.rows) == 40
    assert len(draw("layer-curvature", found).data[0].y) == MOST_LAYERS
    assert "25 largest of 40" in drawing.sentence
    assert draw_both("layer-curvature", found, measure="lambda").light is None, "no layer has an eigenvalue"


@pytest.mark.parametrize(("key", "value", "error"), [
    ("effective_rank", 13.0, 0.4), ("negative_eigenvalues", 24.0, 20.0), ("positive_eigenvalues", 300.0, 105.0),
    ("relative_lambda_max", 20.0, 0.1), ("relative_trace", 150.0, 2.0), ("adaptive_rise", 1.5, None),
    ("plain_rise", 0.02, None),
])  # fmt: skip
def test_the_new_numbers_are_metrics(key: str, value: float, error: float | None) -> None:
    found = usual()
    measured = METRICS[key].read(found, found.variants[0])
    assert (measured.value, measured.error) == (value, error)
    assert METRICS[key].read(found, Variant(name="int8")).value is None


def test_the_baselines_density_is_grey_and_solid_on_a_comparison() -> None:
    found = usual()
    runs = [ComparedResult("A", "old", found, "int2", baseline=True), ComparedResult("B", "new", found, "int2")]
    figure = draw("compare-density", runs)
    old, new = [trace for trace in figure.data if trace.name]
    assert (old.line.color, old.line.dash) == (GROUND["light"].muted, "solid")
    assert new.line.dash == "12px,4px"
    assert [note.text for note in figure.layout.annotations] == ["<b>A  old</b>", "<b>B  new</b>"]
