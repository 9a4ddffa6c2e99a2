"""Planes: nothing is drawn that was not measured, and the loss is cut only where the drawing says so."""

from __future__ import annotations

from typing import Any

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
    assert "Drawn up to L = 3; 10 of 25 points are higher, their values untouched." in drawing.sentence
    assert max(row[2] for row in drawing.table.rows) == 6.0  # type: ignore[type-var]


def test_the_box_of_a_surface_is_higher_than_what_is_cut() -> None:
    figure = draw("plane-surface", usual(), clip=3.0, scale="linear", colours="plane")
    assert figure.layout.scene.zaxis.range[1] > max(value for row in figure.data[0].z for value in row) == 3.0


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


@pytest.mark.parametrize("view", ["flat", "surface"])
def test_a_run_without_the_plane_has_a_panel_that_says_so(view: str) -> None:
    bare = result(variant("FP32", 10.0), variant("int2", 40.0, 0.1))
    for item in bare.variants:
        item.planes.clear()
    drawing = draw_both("compare-planes", compared(usual(), bare), view=view)
    assert drawing.light is not None
    layout = drawing.light["layout"]
    said = [note["text"] for note in layout["annotations"] if "no plane" in note["text"]]
    assert said == [
        "This run has no plane<br>FP32 → int8 × FP32 → int2.<br>Ask for it: New run → Lines and planes."
    ]  # fmt: skip
    assert len(layout["shapes"]) == 1
    first = layout["scene"]["domain"]["x"] if view == "surface" else layout["xaxis"]["domain"]
    assert layout["shapes"][0]["x0"] > first[1], "beside the other run's, which keeps its panel"
    assert "No such plane: B." in drawing.sentence


def test_models_are_named_on_surfaces_side_by_side() -> None:
    drawing = draw_both("compare-planes", compared(usual(), usual()), view="surface")
    assert drawing.light is not None
    for scene in ("scene", "scene2"):
        named = [note["text"] for note in drawing.light["layout"][scene]["annotations"]]
        assert "<b>FP32</b>" in named


def test_no_more_surfaces_than_a_page_can_draw() -> None:
    drawing = draw_both("compare-planes", compared(*[usual()] * 8), view="surface")
    assert drawing.light is not None
    assert sum(trace["type"] == "surface" for trace in drawing.light["data"]) == MOST_SURFACES
    assert f"first {MOST_SURFACES} runs" in drawing.sentence


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


@pytest.mark.parametrize(
    ("pair", "changed", "why"),
    [("to:int8~to:int2", {"model": "b"}, "its direction FP32 → int8 is of another checkpoint"),
     ("gradient~random", {"data": "b"}, "its direction gradient is of other data"),
     ("to:int8~random", {"moved": 0.01}, "its int8 is another model than the baseline's"),
     ("random~random:2", {"model": "b"}, ""),
     ("to:int8~random", {"data": "b"}, "")],
)  # fmt: skip
def test_directions_of_one_name_are_one_direction_only_where_they_are_of_one_model(
    pair: str, changed: dict[str, Any], why: str
) -> None:
    one, two = with_plane(directions=pair.split("~")), with_plane(directions=pair.split("~"))
    for found, mark in ((one, "a"), (two, "b")):
        found.model.sha256 = mark if "model" in changed else "same"
        found.data.sha256 = mark if "data" in changed else "same"
    points = two.variants[0].planes[0].points
    points[1] = points[1].model_copy(update={"alpha": points[1].alpha + changed.get("moved", 0.0)})
    drawing = draw_both("compare-plane-difference", compared(one, two, name="FP32"))
    assert drawing.light is not None
    assert bool(drawing.light["data"]) is not bool(why)
    assert why in drawing.sentence
    assert ("another checkpoint, each around its own weights" in drawing.sentence) is (pair == "random~random:2")


def test_planes_of_other_networks_are_not_subtracted() -> None:
    one, two = with_plane(directions=["random", "random:2"]), with_plane(directions=["random", "random:2"])
    one.model.sha256, two.model.sha256, two.model.parameters = "a", "b", 7
    drawing = draw_both("compare-plane-difference", compared(one, two, name="FP32"))
    assert "its network is another" in drawing.sentence
    two.model.parameters, two.model.architecture = one.model.parameters, "vgg"
    assert "its network is another" in draw_both("compare-plane-difference", compared(one, two, name="FP32")).sentence


@pytest.mark.parametrize(("available", "same"), [(1000, False), (100, True)])
def test_gradients_of_rows_that_another_seed_drew_are_not_subtracted(available: int, same: bool) -> None:
    one, two = (with_plane(directions=["gradient", "eigenvector:1"]) for _ in range(2))
    for found, seed in ((one, 0), (two, 1)):
        found.seed, found.data.samples, found.data.available = seed, 100, available
    drawing = draw_both("compare-plane-difference", compared(one, two, name="FP32"))
    assert ("is of other rows: another seed drew them" in drawing.sentence) is not same


def test_models_out_of_sight_are_named() -> None:
    found = usual()
    points = found.variants[0].planes[0].points
    points[1] = points[1].model_copy(update={"alpha": 40.0})
    said = draw_both("plane", found).sentence
    assert f"Out of sight: {points[1].name}." in said
    assert "Out of sight" not in draw_both("plane", usual()).sentence


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
