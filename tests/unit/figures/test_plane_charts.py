"""Planes: nothing is drawn that was not measured, and the loss is cut only where the drawing says so."""

from __future__ import annotations

import pytest

from quant_lens_engine.figures import METRICS, ComparedResult, draw, draw_both
from quant_lens_engine.figures.compare_planes import MOST_SURFACES
from quant_lens_engine.figures.plane_labels import place_labels
from quant_lens_engine.figures.tokens import DIVERGING
from quant_lens_engine.schema import Line, RunResult
from tests.unit.figures.results import plane, result, usual, variant


def compared(*results: RunResult, name: str = "int2") -> list[ComparedResult]:
    return [
        ComparedResult(letter, f"run {letter}", found, name, letter == "A")
        for letter, found in zip("ABCDEFGH", results, strict=False)
    ]


def with_plane(**changes: object) -> RunResult:
    found = usual()
    found.variants[0].planes = [plane("smooth", 0.0).model_copy(update=changes)]
    return found


def test_a_complete_plane_is_a_contour_with_alpha_to_the_right() -> None:
    filled = draw("plane", usual(), scale="linear").data[0]
    assert filled.type == "contour"
    assert [row[0] for row in filled.z] == pytest.approx([6.0, 3.0, 2.0, 3.0, 6.0]), "β upwards: steeper"
    assert filled.z[0][2] == pytest.approx(5.0)


def test_a_plane_that_is_not_complete_shows_what_is_measured_and_where_it_ends() -> None:
    found = usual()
    found.variants[0].planes = [plane("smooth", 0.0, rows=[0, 1])]
    drawing = draw_both("plane", found)
    assert "2 of 5 rows measured" in drawing.sentence
    assert len(drawing.table.rows) == 10
    figure = draw("plane", found)
    assert figure.data[0].type == "heatmap"
    assert figure.data[0].zsmooth is False
    assert [list(row)[2:] for row in figure.data[0].z] == [[None] * 3] * 5
    assert [(shape.type, shape.x0) for shape in figure.layout.shapes] == [("rect", -0.25), ("line", -0.25)]
    assert "3 rows" in figure.layout.annotations[-1].text


@pytest.mark.parametrize("name", ["plane", "plane-surface"])
def test_a_gap_stays_a_gap_and_has_its_reason(name: str) -> None:
    loss = [list(row) for row in plane("smooth", 0.0).loss]
    loss[1][2] = None
    drawing = draw_both(name, with_plane(loss=loss, reason="the loss is not finite"))
    assert drawing.light is not None
    assert drawing.light["data"][0]["z"][2][1] is None
    assert "1 gap is a point without a loss: the loss is not finite." in drawing.sentence


def test_the_loss_is_cut_only_in_the_drawing_and_the_sentence_says_so() -> None:
    drawing = draw_both("plane", usual(), clip=3.0, scale="linear", colours="plane")
    assert drawing.light is not None
    assert max(value for row in drawing.light["data"][0]["z"] for value in row) == 3.0
    assert drawing.light["data"][0]["customdata"][0][0][0] == 6.0, "hovering tells the loss itself"
    assert "Drawn up to L = 3: 10 of 25 points are higher." in drawing.sentence
    assert max(row[2] for row in drawing.table.rows) == 6.0  # type: ignore[type-var]


def test_a_loss_without_a_logarithm_makes_the_scale_linear_and_says_so() -> None:
    loss = [[value - 1.0 for value in row if value is not None] for row in plane("smooth", 0.0).loss]
    assert "Linear: some loss is not positive." in draw_both("plane", with_plane(loss=loss), colours="plane").sentence


def test_models_beside_the_plane_are_hollow_and_no_path_leads_to_them() -> None:
    figure = draw("plane", usual())
    over = [trace for trace in figure.data if trace.type == "scatter"]
    markers = {trace.hovertemplate[3:7]: trace.marker for trace in over if trace.mode == "markers"}
    assert markers["int2"].color == "#ffffff"
    assert markers["int8"].color != "#ffffff"
    (way,) = [trace for trace in over if trace.mode == "lines"]
    assert list(way.x) == [0.0, 0.5, None]
    assert not [trace for trace in draw("plane", usual(), shown=[]).data if trace.type == "scatter"]


def test_the_float_models_two_landscapes_are_one() -> None:
    assert "two landscapes are one" in draw_both("plane", usual(), landscape="deployed").sentence


def test_labels_of_points_in_one_place_do_not_cover_each_other() -> None:
    placed = [label.box for label in place_labels([(200.0, 200.0)] * 5, [12] * 5, (470, 470)) if label]
    assert len(placed) == 5
    assert not any(one.overlaps(two, 0) for place, one in enumerate(placed) for two in placed[place + 1 :])


def test_planes_side_by_side_share_axes_and_colours() -> None:
    figure = draw("compare-planes", compared(usual(), usual(), usual()))
    assert figure.layout.xaxis3.matches == "x"
    assert figure.layout.yaxis2.matches == "y"
    assert {trace.coloraxis for trace in figure.data if trace.type == "contour" and trace.coloraxis} == {"coloraxis"}


def test_no_more_surfaces_than_a_page_can_draw() -> None:
    drawing = draw_both("compare-planes", compared(*[usual()] * 8), view="surface")
    assert drawing.light is not None
    assert sum(trace["type"] == "surface" for trace in drawing.light["data"]) == MOST_SURFACES
    assert "first 6 runs" in drawing.sentence


def test_a_difference_is_centred_on_zero() -> None:
    better = result(variant("FP32", 10.0), variant("int2", 40.0, 0.1))
    figure = draw("compare-plane-difference", compared(usual(), better))
    assert figure.data[0].z[0][0] == pytest.approx(-0.2)
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax
    assert figure.layout.coloraxis.colorscale[0][1] == DIVERGING["light"][0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"alphas": [2.0 * a for a in (-1.0, -0.5, 0.0, 0.5, 1.0)]}, "its grid is another"),
     ({"directions": ["to:int8", "gradient"]}, "its directions are others")],
)  # fmt: skip
def test_no_difference_of_planes_that_mean_other_places(changes: dict[str, object], why: str) -> None:
    runs = compared(with_plane(), with_plane(**changes), name="FP32")
    drawing = draw_both("compare-plane-difference", [*runs], pair="")
    assert drawing.light is None or why in drawing.sentence


def test_random_directions_of_another_seed_are_no_common_plane() -> None:
    one, two = with_plane(directions=["random:1", "random:2"]), with_plane(directions=["random:1", "random:2"])
    two.seed = 1
    drawing = draw_both("compare-plane-difference", compared(one, two, name="FP32"))
    assert "random directions come from another seed" in drawing.sentence
    assert drawing.light is not None
    assert not drawing.light["data"]


def test_lines_are_the_random_ones_unless_another_kind_is_named() -> None:
    found = usual()
    other = Line(landscape="smooth", direction="eigenvector:1", alphas=[-1.0, 0.0, 1.0], loss=[9.0, 1.0, 9.0])
    for item in found.variants:
        item.lines = [other, *item.lines]
    assert max(draw("lines", found).data[-1].y) < 9
    named = draw("lines", found, direction="eigenvector:1")
    assert max(named.data[-1].y) == 9.0
    assert "eigenvector 1" in named.layout.xaxis.title.text
    assert max(draw("compare-lines", compared(found, found)).data[0].y) < 9
    assert METRICS["basin_width"].read(found, found.variants[0]).value == 0.4


def test_a_line_without_random_directions_is_still_drawn() -> None:
    found = usual()
    for item in found.variants:
        item.lines = [Line(landscape="smooth", direction="gradient", alphas=[-1.0, 0.0], loss=[2.0, 1.0])]
    assert len(draw("lines", found).data) == 3


def test_a_path_tells_its_barrier_and_marks_evaluated_losses() -> None:
    assert "Barrier (nats): int8 0.100, int2 0.100." in draw_both("path", usual()).sentence
    ends = [(trace.x[0], trace.y[0]) for trace in draw("path", usual()).data if trace.mode == "markers"]
    assert ends == [(0.0, 1.0), (1.0, 1.001), (1.0, 1.3)]
    assert METRICS["barrier"].read(usual(), usual().variants[1]).value == 0.1
