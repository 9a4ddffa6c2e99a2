"""What the charts of activations and BatchNorm say."""

from __future__ import annotations

import math

import pytest

from quant_lens_engine.figures import draw, draw_both
from quant_lens_engine.figures.activation_layers import MOST_ROWS
from quant_lens_engine.schema import RunResult
from tests.unit.figures.results import result, usual, variant


def named(figure, name: str):
    return next(trace for trace in figure.data if trace.name == name and trace.showlegend is not False)


def test_ranges_of_the_float_model_and_the_variant_that_is_chosen() -> None:
    figure = draw("activation-ranges", usual(), variant="int2")
    assert [trace.name for trace in figure.data if trace.name] == ["FP32", "int2"]
    assert list(figure.layout.yaxis.ticktext) == ["fc1", "fc2"], "in the order in which they run; what never ran is not"
    line = figure.data[0]
    assert list(line.x) == [-3.0, 4.0, None, -6.0, 8.0, None]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1], "the first layer is on top"
    words = draw_both("activation-ranges", usual(), variant="int2").sentence
    assert words.startswith("int2: the range of fc1 is 1.30 × FP32's. Thin: all values;")
    assert draw_both("activation-ranges", usual(), variant="int8").sentence.startswith("int8 keeps FP32's ranges.")


def test_ranges_in_standard_deviations_are_those_of_the_float_model() -> None:
    figure = draw("activation-ranges", usual(), variant="int2", scale="sigma")
    means = named(figure, "int2").x
    assert list(means) == pytest.approx([0.0, 0.0])
    assert list(figure.data[0].x)[:2] == pytest.approx([-3.1, 3.9])
    assert "σ of FP32" in figure.layout.xaxis.title.text


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        ("share", "fc1 has most: 1.30 % of int2's values are beyond 6 σ of FP32's output."),
        ("kurtosis", "fc1 has the heaviest tails: 3.80 in int2; 3 is a normal distribution."),
        ("channels", "fc2's widest channel is 2.80 × its median one (int2): what one scale a tensor wastes."),
    ],
)
def test_outliers_by_three_measures(measure: str, words: str) -> None:
    drawing = draw_both("activation-outliers", usual(), variant="int2", measure=measure)
    assert drawing.sentence == words
    assert len(drawing.table.rows) == 4


def test_no_outlier_is_said_and_drawn() -> None:
    found = result(variant("FP32", 10.0), variant("int8", 10.2, 0.001))
    for item in found.variants:
        for layer in item.activation_statistics.layers[:2]:
            layer.output.outlier_share = 0.0
    drawing = draw_both("activation-outliers", found)
    assert drawing.sentence == "No value of any layer is further than 6 σ from its mean."
    assert drawing.light["layout"]["xaxis"]["range"] == pytest.approx([0.0, 0.0114])


def test_sqnr_is_a_dumbbell_of_the_variant() -> None:
    figure = draw("activation-sqnr", usual(), variant="int2")
    assert list(named(figure, "this layer alone").x) == pytest.approx([24.0, 22.0])
    assert list(named(figure, "with all before it").x) == pytest.approx([24.0, 18.0])
    words = draw_both("activation-sqnr", usual(), variant="int2").sentence
    assert words == "int2: fc2 loses most by itself (22.0 dB); fc2, the last, is left with 18.0 dB."
    assert not draw("activation-sqnr", usual(), variant="FP32").data, "the float model has none"


def test_an_unknown_variant_or_layer_gets_what_a_page_without_them_shows() -> None:
    assert draw_both("activation-sqnr", usual(), variant="int5") == draw_both("activation-sqnr", usual())
    usual_one = draw_both("activation-histogram", usual())
    assert draw_both("activation-histogram", usual(), layer="nowhere") == usual_one
    assert usual_one.sentence.startswith("fc2 (Linear): "), "the layer with the lowest SQNR"


def test_histograms_lie_over_each_other_with_gaps_where_nothing_is() -> None:
    figure = draw("activation-histogram", usual(), variant="int2", layer="fc1")
    assert [trace.name for trace in figure.data] == ["FP32", "int2"]
    first = figure.data[0]
    assert list(first.x) == [-3.0, -1.25, -1.25, 0.5, None, 2.25, 4.0]
    assert list(first.y) == [10, 10, 500, 500, None, 490, 490]
    assert len(first.customdata) == len(first.x)
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis.range[1] == pytest.approx(math.log10(1000))
    words = draw_both("activation-histogram", usual(), variant="int2", layer="fc1").sentence
    assert "0.200 % of int2's values lie outside FP32's range" in words.replace("\u2009", " ")
    table = draw_both("activation-histogram", usual(), variant="int2", layer="fc1").table
    assert [row[2:] for row in table.rows] == [(0, 2), (10, 10), (500, 500), (0, 0), (490, 488), (0, 0)]


def test_drift_has_two_panels_over_the_same_rows_and_ratios_around_one() -> None:
    figure = draw("batchnorm-drift", usual(), variant="int2")
    assert list(figure.layout.yaxis.ticktext) == ["norm1", "norm2"]
    assert {trace.xaxis for trace in figure.data} == {"x", "x2"}
    low, high = figure.layout.xaxis2.range
    assert low == pytest.approx(-high), "1 is in the middle"
    assert list(named(figure, "int2").x) == pytest.approx([0.31, 0.32])
    words = draw_both("batchnorm-drift", usual(), variant="int2").sentence
    assert words.startswith("int2: norm2 has drifted most, by 0.320 σ rms (FP32 0.0200).")


def test_without_a_variant_the_float_model_stands_alone() -> None:
    found = result(variant("FP32", 10.0))
    for name in ("activation-ranges", "activation-outliers", "activation-histogram", "batchnorm-drift"):
        drawing = draw_both(name, found)
        assert drawing.light is not None
        assert "FP32" in str(drawing.table.rows) + str(drawing.table.columns)
    assert draw_both("activation-sqnr", found).light is None
    assert draw_both("activation-ranges", usual(), variant="FP32").table.rows[0][2] == "FP32"


def test_of_very_many_layers_the_worst_are_drawn_and_all_are_in_the_table() -> None:
    found = usual()
    for item in found.variants:
        one = item.activation_statistics.layers[0]
        item.activation_statistics.layers = [
            one.model_copy(update={"name": f"layer{place}", "sqnr_db": None if one.sqnr_db is None else 60.0 - place})
            for place in range(55)
        ]
    drawing = draw_both("activation-sqnr", found, variant="int2")
    assert len(drawing.table.rows) == 55
    shown = drawing.light["layout"]["yaxis"]["ticktext"]
    assert shown == [f"layer{place}" for place in range(55 - MOST_ROWS, 55)]
    assert drawing.sentence.endswith("The 40 of 55 layers with the lowest SQNR; all in the table.")


def test_a_name_that_someone_typed_is_no_markup() -> None:
    found = usual()
    for item in found.variants:
        item.activation_statistics.layers[0].name = "<b>x</b>"
    assert draw("activation-ranges", found).layout.yaxis.ticktext[0] == "&lt;b>x&lt;/b>"
    assert draw_both("activation-histogram", RunResult()).light is None
