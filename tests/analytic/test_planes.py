"""Planes, paths and directions whose values are known."""

import copy
import itertools
import math
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from quant_lens_engine.curvature import HessianOperator, leading_eigenvectors
from quant_lens_engine.errors import InputError
from quant_lens_engine.evaluation import FloatDistance, evaluate, float_outputs
from quant_lens_engine.landscape import Surroundings, measure_lines, measure_path
from quant_lens_engine.landscape.directions import DIRECTIONS, make_direction
from quant_lens_engine.landscape.distance import Rises, automatic_reach
from quant_lens_engine.landscape.line_frame import LineFrames
from quant_lens_engine.landscape.plane_frame import PlaneFrame, plane_frame
from quant_lens_engine.landscape.planes import deployed_places, measure_rows, smooth_places
from quant_lens_engine.landscape.readings import Reader
from quant_lens_engine.landscape.surroundings import inner, length, moved
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT
from quant_lens_engine.quantization import float_variant, quantize
from quant_lens_engine.schema import LineOptions, Plane, PlaneOptions, join_pieces

Batches = list[tuple[Tensor, Tensor]]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reader() -> Reader:
    return Reader(SILENT, "", 1)


def regression() -> Objective:
    """L is a quadratic of the parameters; ragged batches."""
    x, y = random(47, 6), random(47, 3, seed=1)
    batches = [(x[:20], y[:20]), (x[20:40], y[20:40]), (x[40:], y[40:])]
    return Objective(nn.Linear(6, 3).double(), batches, task="regression")


def rows_of(frame: PlaneFrame, objective: Objective, rows: list[int]) -> Plane:
    places = smooth_places(frame, objective, objective.point)
    return measure_rows(frame, places, rows, landscape="smooth", reader=reader())


def flat(objective: Objective, steps: dict[str, Tensor]) -> Tensor:
    return torch.cat([steps[name].double().reshape(-1) for name in objective.free])


def test_a_plane_of_a_quadratic_is_exact_everywhere() -> None:
    """L(w + s) = L + gᵀs + ½ sᵀHs with s = αd₁ + βd₂."""
    objective = regression()
    around = Surroundings(objective, seed=2)
    options = PlaneOptions(steps=7, distance=1.5)
    frame = plane_frame(around, ("random:1", "random-raw:2"), options, reader())
    plane = rows_of(frame, objective, list(range(7)))
    hessian = HessianOperator(objective)
    axes = [flat(objective, dict(axis)) for axis in frame.axes]
    products = [hessian.matvec(axis) for axis in axes]
    slopes = [gradient_along(objective, dict(axis)) for axis in frame.axes]
    for (row, alpha), (column, beta) in itertools.product(enumerate(frame.grid), enumerate(frame.grid)):
        quadratic = 0.5 * float((alpha * axes[0] + beta * axes[1]) @ (alpha * products[0] + beta * products[1]))
        expected = objective.loss() + alpha * slopes[0] + beta * slopes[1] + quadratic
        assert plane.loss[row][column] == pytest.approx(expected, rel=1e-10)


def gradient_along(objective: Objective, steps: dict[str, Tensor]) -> float:
    """dᵀ∇L by a central difference, which is exact for a quadratic."""
    ends = [objective.at(moved(objective.point, (steps, sign))).loss() for sign in (1.0, -1.0)]
    return (ends[0] - ends[1]) / 2


def test_the_curvature_along_an_eigenvector_is_its_eigenvalue() -> None:
    objective = regression()
    vectors, values = leading_eigenvectors(objective, 2, tolerance=1e-8)
    around = Surroundings(objective, eigenvector=lambda number: vectors[number - 1])
    options = LineOptions(kinds=("eigenvector:1", "eigenvector:2"), steps=5, distance=0.5)
    lines = measure_lines(
        objective, base_point=objective.point, options=options, frames=LineFrames(around, options)
    )  # fmt: skip
    dense = torch.linalg.eigvalsh(dense_hessian(objective)).flip(0)
    for number, line in enumerate((lines[1], lines[3])):
        parabola = np.polynomial.Polynomial.fit(line.alphas, line.loss, 2).convert()
        assert 2 * parabola.coef[2] == pytest.approx(float(dense[number]), rel=1e-6)
        assert values[number] == pytest.approx(float(dense[number]), rel=1e-6)


def dense_hessian(objective: Objective) -> Tensor:
    operator = HessianOperator(objective)
    return torch.stack([operator.matvec(row) for row in torch.eye(objective.dimension, dtype=torch.float64)])


def test_the_line_along_the_gradient_rises_by_its_length() -> None:
    objective = regression()
    gradient = flat_gradient(objective)
    around = Surroundings(objective, gradient=lambda: gradient)
    steps = dict(make_direction("gradient", around).steps)
    assert length(steps) == pytest.approx(1, rel=1e-12)
    assert gradient_along(objective, steps) == pytest.approx(float(gradient.norm()), rel=1e-9)


def flat_gradient(objective: Objective) -> Tensor:
    parts = []
    for name in objective.free:
        unit = torch.zeros_like(objective.point[name])
        for index in range(unit.numel()):
            one = unit.clone()
            one.view(-1)[index] = 1
            parts.append(gradient_along(objective, {name: one}))
    return torch.tensor(parts, dtype=torch.float64)


def test_rows_are_independent_whoever_measures_them(digits_cnn: nn.Module, digits_batches: Batches) -> None:
    """Any split, any order: the same plane to the last digit."""
    objective = Objective(digits_cnn, digits_batches)
    variant = quantize(digits_cnn, "int4")
    options = PlaneOptions(steps=5)

    def pieces(groups: list[list[int]]) -> Plane:
        around = Surroundings(objective, seed=1, point_of=lambda _: variant.point)
        frame = plane_frame(around, ("to:int4", "random"), options, reader())
        return join_pieces([rows_of(frame, objective, rows) for rows in groups])

    whole, split = pieces([[0, 1, 2, 3, 4]]), pieces([[4, 1], [2], [3, 0]])
    assert whole.loss == split.loss
    assert whole.accuracy == split.accuracy
    assert split.complete
    missing = pieces([[4, 1]])
    assert not missing.complete
    assert missing.loss[0] == [None] * 5
    assert missing.loss[4] == whole.loss[4]


def test_a_plane_goes_through_its_models_and_shows_their_losses(digits_cnn: nn.Module, digits_batches: Batches) -> None:
    objective = Objective(digits_cnn, digits_batches)
    variants = {name: quantize(digits_cnn, name) for name in ("int4", "int3", "int2")}
    around = Surroundings(objective, point_of=lambda name: variants[name].point)
    frame = plane_frame(around, ("to:int4", "to:int3"), PlaneOptions(steps=5), reader())
    whole = length(around.base)
    places = {}
    for name, variant in variants.items():
        steps = around.steps_to(variant.point)
        places[name] = place = frame.locate(name, steps, whole)
        assert place.shift == pytest.approx(length(steps) / whole, rel=1e-12)
        assert math.hypot(place.alpha, place.beta, place.distance) == pytest.approx(place.shift, rel=1e-6), (
            "the axes are orthogonal and as long as w: Pythagoras holds"
        )
    for name in ("int4", "int3"):
        assert places[name].distance == 0
        there = objective.at(frame.place(objective.point, places[name].alpha, places[name].beta))
        assert there.loss() == pytest.approx(evaluate(objective.at(variants[name].point)).loss, rel=1e-4)
        assert max(abs(places[name].alpha), abs(places[name].beta)) < frame.reach.distance, "inside the picture"
    assert places["int2"].distance > 0.01, "a third model stands beside the plane"


@pytest.mark.parametrize("scheme", ["int4", "w4a8", "int3-g8-asym"])
def test_a_path_ends_at_the_variants_loss(scheme: str, digits_cnn: nn.Module, digits_batches: Batches) -> None:
    objective = Objective(digits_cnn, digits_batches)
    variant = quantize(digits_cnn, scheme, objective)
    live = variant.live(objective)
    reference = float_outputs(objective)
    evaluated = evaluate(live, reference=reference)
    path = measure_path(objective, live, points=13)
    assert path.loss[path.alphas.index(1.0)] == evaluated.loss
    assert path.accuracy is not None
    assert path.accuracy[path.alphas.index(1.0)] == evaluated.accuracy
    if variant.forward is None:
        assert path.loss[path.alphas.index(0.0)] == objective.loss()
    assert path.alphas[0] == -path.alphas[-1]


def test_kl_along_a_line_is_nothing_at_the_float_model(digits_cnn: nn.Module, digits_batches: Batches) -> None:
    objective = Objective(digits_cnn, digits_batches)
    reference = float_outputs(objective)
    line = measure_lines(
        objective, base_point=objective.point, options=LineOptions(directions=2, steps=5),
        divergence=lambda: FloatDistance(reference),
    )[-1]  # fmt: skip
    assert line.kl is not None
    assert line.kl[2] == pytest.approx(0, abs=1e-12)
    assert min(line.kl[0], line.kl[-1]) > 0.01
    moved_there = objective.at(
        moved(objective.point, (make_direction("random:1", Surroundings(objective)).steps, line.alphas[0]))
    )
    single = measure_lines(
        objective, base_point=objective.point, options=LineOptions(directions=1, steps=5, distance=line.distance),
        divergence=lambda: FloatDistance(reference),
    )[-1]  # fmt: skip
    assert single.kl[0] == evaluate(moved_there, reference=reference).kl_to_float


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 3),
    "conv1d": lambda: nn.Conv1d(4, 6, 3),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4),
    "transposed": lambda: nn.ConvTranspose2d(6, 4, 3),
    "transposed-grouped": lambda: nn.ConvTranspose2d(6, 4, 3, groups=2),
    "embedding": lambda: nn.Embedding(7, 4),
    "lstm": lambda: nn.LSTM(3, 4),
    "attention": lambda: nn.MultiheadAttention(8, 2),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_each_filter_of_a_direction_is_as_long_as_the_parameters_own(layer: str) -> None:
    torch.manual_seed(0)
    model = LAYERS[layer]()
    objective = Objective(model, [(torch.zeros(1, 1), torch.zeros(1))], task="regression", forward=lambda *_: None)
    steps = make_direction("random:3", Surroundings(objective, seed=5)).steps
    for name, parameter in model.named_parameters():
        own, drawn = parameter.detach().double(), steps[name]
        if parameter.ndim < 2:
            assert not drawn.any()
        elif isinstance(model, nn.ConvTranspose2d):
            groups, wide = model.groups, model.in_channels // model.groups
            for group, channel in itertools.product(range(groups), range(own.shape[1])):
                part = slice(group * wide, (group + 1) * wide)
                assert drawn[part, channel].norm() == pytest.approx(float(own[part, channel].norm()), rel=1e-6)
        else:
            for row, expected in zip(drawn, own, strict=True):
                assert row.norm() == pytest.approx(float(expected.norm()), rel=1e-6)
    by_layer = make_direction("random-layer:3", Surroundings(objective, seed=5)).steps
    for name, parameter in model.named_parameters():
        expected = 0.0 if parameter.ndim < 2 else float(parameter.detach().double().norm())
        assert by_layer[name].norm() == pytest.approx(expected, rel=1e-6)


def test_directions_are_the_seeds_whatever_else_is_drawn(digits_cnn: nn.Module, digits_batches: Batches) -> None:
    objective = Objective(digits_cnn, digits_batches)
    one, two = (make_direction("random:2", Surroundings(objective, seed=seed)).steps for seed in (4, 4))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    other = make_direction("random:2", Surroundings(objective, seed=5)).steps
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_principal_components_of_a_trajectory() -> None:
    """Checkpoints on a plane through w: two components span it, and a third one is refused."""
    objective = regression()
    base = objective.point
    one, two = ({name: random(*tensor.shape, seed=seed) for name, tensor in base.items()} for seed in (7, 8))
    checkpoints = [moved(base, (one, a), (two, b)) for a, b in ((1.0, 0.2), (2.0, -0.1), (0.5, 0.9))]
    around = Surroundings(objective, checkpoints=checkpoints)
    components = [make_direction(f"pca:{number}", around).steps for number in (1, 2)]
    for component in components:
        assert length(component) == pytest.approx(1, rel=1e-10)
    assert inner(*components) == pytest.approx(0, abs=1e-8)
    for checkpoint in checkpoints:
        steps = around.steps_to(checkpoint)
        inside = math.hypot(*(inner(steps, component) for component in components))
        assert inside == pytest.approx(length(steps), rel=1e-8)
    matrix = torch.stack([flat(objective, around.steps_to(checkpoint)) for checkpoint in checkpoints])
    leading = torch.linalg.svd(matrix, full_matrices=False)[2][0]
    assert abs(float(leading @ flat(objective, dict(components[0])))) == pytest.approx(1, rel=1e-8)
    with pytest.raises(InputError, match="fewer than 3"):
        make_direction("pca:3", around)
    frame = plane_frame(around, ("pca:1", "pca:2"), PlaneOptions(steps=3, distance=4), reader())
    assert frame.joins
    assert frame.locate("third", around.steps_to(checkpoints[2]), length(around.base)).distance == 0
    far = plane_frame(replace(around, checkpoints=[moved(base, (one, 90.0)), *checkpoints]), ("pca:1", "pca:2"),
                      PlaneOptions(steps=3), reader())  # fmt: skip
    place = far.locate("far", around.steps_to(moved(base, (one, 90.0))), length(around.base))
    assert max(abs(place.alpha), abs(place.beta)) < far.reach.distance, "inside the picture that is drawn for it"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("random:0", "no number from 1"),
        ("random:x", "no number from 1"),
        ("nowhere", "unknown direction"),
        ("to", "names no direction"),
        ("error", "nothing of it is rounded"),
        ("checkpoint:2", "there is no checkpoint:2"),
    ],
)
def test_a_direction_that_cannot_be_made_says_why(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make_direction(name, Surroundings(regression()))


def test_parallel_directions_span_no_plane() -> None:
    objective = regression()
    there = moved(objective.point, ({name: torch.ones_like(t) for name, t in objective.point.items()}, 1.0))
    twice = moved(objective.point, ({name: torch.ones_like(t) for name, t in objective.point.items()}, 2.0))
    around = Surroundings(objective, point_of={"a": there, "b": twice}.__getitem__)
    with pytest.raises(InputError, match="parallel") as caught:
        plane_frame(around, ("to:a", "to:b"), PlaneOptions(steps=3), reader())
    assert caught.value.code == "parallel_directions"


def test_every_direction_says_what_it_is() -> None:
    assert len(DIRECTIONS) >= 10
    assert all(kind.description for kind in DIRECTIONS.values())


def test_a_deployed_plane_is_rounded_anew_and_equals_the_smooth_one_at_sixteen_bits(
    digits_cnn: nn.Module, digits_batches: Batches
) -> None:
    objective = Objective(digits_cnn, digits_batches)
    frame = plane_frame(Surroundings(objective), ("random:1", "random:2"), PlaneOptions(steps=3), reader())
    found = {}
    for scheme in ("int16", "int3"):
        variant = quantize(digits_cnn, scheme)
        assert variant.redeploy is not None
        smooth = measure_rows(
            frame, smooth_places(frame, variant.smooth(objective), variant.point), [0, 1, 2],
            landscape="smooth", reader=reader(),
        )  # fmt: skip
        deployed = measure_rows(
            frame, deployed_places(frame, objective, variant.redeploy), [0, 1, 2], landscape="deployed", reader=reader()
        )
        assert smooth.loss[1][1] == deployed.loss[1][1] == variant.live(objective).loss(), "α = β = 0"
        found[scheme] = np.abs(np.array(smooth.loss) / np.array(deployed.loss) - 1).max()
    assert found["int16"] < 2e-3
    assert found["int3"] > 0.02


def test_a_loss_that_is_not_finite_is_a_gap_with_a_reason() -> None:
    class Explosive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((1, 2), 60.0))

        def forward(self, x: Tensor) -> Tensor:
            return torch.exp(x @ self.weight.T)

    objective = Objective(Explosive(), [(torch.ones(2, 2), torch.zeros(2, 1))], task="regression")
    frame = plane_frame(Surroundings(objective), ("random:1", "random:2"), PlaneOptions(steps=3, distance=1), reader())
    plane = rows_of(frame, objective, [0, 1, 2])
    missing = sum(loss is None for row in plane.loss for loss in row)
    assert missing > 0
    assert plane.reason == f"the loss is not finite at {missing} of 9 points"


def test_the_model_is_as_it_was_after_planes_and_lines(digits_cnn: nn.Module, digits_batches: Batches) -> None:
    before = copy.deepcopy(digits_cnn.state_dict())
    objective = Objective(digits_cnn, digits_batches)
    buffers = copy.deepcopy(dict(objective.model.named_buffers()))
    frame = plane_frame(Surroundings(objective), ("random:1", "random:2"), PlaneOptions(steps=3), reader())
    rows_of(frame, objective, [0, 1, 2])
    measure_lines(objective, base_point=objective.point, options=LineOptions(steps=3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in digits_cnn.state_dict().items())
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in objective.model.named_buffers())
    assert all(torch.equal(objective.point[name], before[name]) for name in objective.free)


class TestReach:
    """How far a line goes."""

    @staticmethod
    def parabola(curvature: float) -> Callable[[float], Rises]:
        return lambda distance: Rises(curvature * distance**2, curvature * distance**2)

    @pytest.mark.parametrize("curvature", [1e-4, 0.01, 0.3, 1.0, 30.0, 1e4])
    def test_a_basin_fills_a_good_part_of_the_picture(self, curvature: float) -> None:
        """A basin that ends between 0.3 and 1 of the way is seen, and so are its walls."""
        reach = automatic_reach(self.parabola(curvature), rise=1.0)
        share = math.sqrt(1 / curvature) / reach.distance
        assert 0.15 < share <= 1, reach

    def test_what_never_rises_is_said(self) -> None:
        reach = automatic_reach(self.parabola(0.0), rise=1.0)
        assert "has not risen" in reach.sentence

    def test_it_does_not_widen_into_what_is_not_finite(self) -> None:
        def rises_at(distance: float) -> Rises:
            return Rises(0.1, 0.2) if distance <= 2 else Rises(0.1, math.inf)

        reach = automatic_reach(rises_at, rise=1.0)
        assert reach.distance == 2
        assert "not finite" in reach.sentence

    def test_it_narrows_until_everything_is_finite_and_says_so(self) -> None:
        reach = automatic_reach(lambda d: Rises(5.0, math.inf) if d > 0.3 else Rises(1.0, 2.0), rise=1.0)
        assert reach.distance == 0.25
        assert "narrowed from 1 to 0.25" in reach.sentence

    @pytest.mark.parametrize("floor", [0.0, 1.0])
    def test_what_is_nowhere_finite_is_said(self, floor: float) -> None:
        reach = automatic_reach(lambda _: Rises(math.inf, math.inf), rise=1.0, floor=floor)
        assert "at its edge the loss is not finite" in reach.sentence
        assert "rises by" not in reach.sentence

    def test_models_stay_inside(self) -> None:
        reach = automatic_reach(self.parabola(1e6), rise=1.0, start=0.4, floor=0.4)
        assert reach.distance == 0.4


def test_float_and_variant_share_the_frame_of_a_line(digits_cnn: nn.Module, digits_batches: Batches) -> None:
    objective = Objective(digits_cnn, digits_batches)
    options = LineOptions(directions=1, steps=5)
    frames = LineFrames(Surroundings(objective), options)
    variant = quantize(digits_cnn, "int8")
    one, two = (
        measure_lines(objective, base_point=objective.point, variant=live, options=options, frames=frames)[-1]
        for live in (None, variant.live(objective))
    )
    assert one.alphas == two.alphas
    assert one.distance_choice == two.distance_choice
    assert float_variant(digits_cnn).point.keys() == variant.point.keys()


@pytest.mark.parametrize(("scheme", "levels"), [("int3", 3), ("int4", 7), ("int16", 32767)])
def test_the_deployed_line_takes_the_steps_of_the_grid(scheme: str, levels: int) -> None:
    """Two weights of one channel: the first fixes the range and stays, the second walks from −0.65 to 0.85.

    L = (q − 10)² of the second weight's code q, so every step of the staircase is seen, and none is missing.
    """
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.1]]))
    objective = Objective(model, [(torch.tensor([[0.0, 1.0]]), torch.tensor([[10.0]]))], task="regression")
    variant = quantize(model, scheme)
    there = {"weight": torch.tensor([[1.0, 0.6]])}
    around = Surroundings(objective, point_of=lambda _: there)
    options = LineOptions(kinds=("to:there",), steps=901)
    deployed, smooth = measure_lines(
        objective, base_point=objective.point, variant=variant.live(objective), redeploy=variant.redeploy,
        options=options, frames=LineFrames(around, options),
    )  # fmt: skip
    walked = [0.1 + 0.5 * alpha for alpha in deployed.alphas]
    expected = [(round(weight * levels) / levels - 10) ** 2 for weight in walked]
    away_from_ties = [abs(weight * levels % 1 - 0.5) > 1e-4 for weight in walked]
    for found, loss, clear in zip(deployed.loss, expected, away_from_ties, strict=True):
        assert not clear or found == pytest.approx(loss, rel=1e-6)
    if levels < 10:
        inside = sum(-0.65 <= (step + 0.5) / levels <= 0.85 for step in range(-levels, levels))
        assert len({round(loss, 4) for loss in deployed.loss}) == inside + 1, "one value more than crossings"
        assert deployed.roughness > 0.5
    else:
        assert np.allclose(deployed.loss, smooth.loss, rtol=1e-4), "deployed and smooth agree at 16 bits"
        assert deployed.roughness < 1e-3


def half_frozen() -> tuple[Objective, dict[str, Tensor]]:
    """Of three layers two are frozen, and all three differ in the other model."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    model[0].requires_grad_(False)
    model[2].requires_grad_(False)
    objective = Objective(model, [(random(20, 6), random(20, 3, seed=1))], task="regression")
    return objective, {name: tensor.round(decimals=1) for name, tensor in objective.point.items()}


def test_a_way_to_a_model_moves_frozen_parameters_too() -> None:
    """Every loss on the path is the one at w + α(Q(w) − w), of all layers; no step at α = 1."""
    objective, rounded = half_frozen()
    path = measure_path(objective, objective.at(rounded), points=7)
    for alpha, loss in zip(path.alphas, path.loss, strict=True):
        there = {name: w + alpha * (rounded[name] - w) for name, w in objective.point.items()}
        assert loss == pytest.approx(objective.at(there).loss(), rel=1e-12)
    around = Surroundings(objective, point_of=lambda _: rounded, checkpoints=[rounded])
    for name in ("to:a", "checkpoint:1", "pca:1"):
        assert set(make_direction(name, around).steps) == set(objective.point), name
    assert set(make_direction("random:1", around).steps) == set(objective.free), "a drawn direction leaves them"


def test_a_plane_through_a_model_holds_its_frozen_parameters() -> None:
    objective, rounded = half_frozen()
    around = Surroundings(objective, point_of=lambda _: rounded)
    whole = length(around.base)
    for names in (("to:a", "random:1"), ("random:1", "to:a")):
        frame = plane_frame(around, names, PlaneOptions(steps=3, distance=1), reader())
        place = frame.locate("a", around.steps_to(rounded), whole)
        assert place.shift == pytest.approx(length({n: rounded[n] - w for n, w in objective.point.items()}) / whole)
        assert place.distance == 0
        there = objective.at(frame.place(objective.point, place.alpha, place.beta))
        assert there.loss() == pytest.approx(objective.at(rounded).loss(), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_model_that_a_plane_leads_to_lies_on_it_in_every_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    objective = Objective(model, [(random(8, 6).to(dtype), random(8, 3, seed=1).to(dtype))], task="regression")
    ends = [{n: (t * 2**k).round() / 2**k for n, t in objective.point.items()} for k in (2, 3)]
    around = Surroundings(objective, point_of=lambda name: ends[int(name)])
    frame = plane_frame(around, ("to:0", "to:1"), PlaneOptions(steps=3, distance=1), reader())
    for end in ends:
        place = frame.locate("end", around.steps_to(end), length(around.base))
        assert place.distance == 0
        assert max(abs(place.alpha), abs(place.beta)) > 0.01


def test_a_model_of_zeros_has_no_unit_of_length() -> None:
    objective = regression()
    around = Surroundings(objective.at({n: torch.zeros_like(t) for n, t in objective.point.items()}))
    around = replace(around, point_of=lambda _: objective.point)
    with pytest.raises(InputError, match="no unit of length"):
        plane_frame(around, ("to:a", "random-raw:1"), PlaneOptions(steps=3, distance=1), reader())
    frame = plane_frame(around, ("random-raw:1", "random-raw:2"), PlaneOptions(steps=3, distance=1), reader())
    place = frame.locate("a", around.steps_to(objective.point), length(around.base))
    assert place.shift == pytest.approx(length(objective.point))


def test_a_tensor_that_is_asked_for_again_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, _ = half_frozen()
    steps = make_direction("random-raw:1", Surroundings(objective)).steps
    drawn, draw = [], torch.randn
    monkeypatch.setattr(torch, "randn", lambda *args, **more: drawn.append(1) or draw(*args, **more))
    inner(steps, steps)
    assert len(drawn) == len(steps)
    twice = [steps["4.bias"], steps["4.bias"]]
    assert torch.equal(*twice)
    assert twice[0].data_ptr() != twice[1].data_ptr(), "the caller's to change"


def test_lines_that_are_let_go_of_hold_no_model_and_are_made_again() -> None:
    objective, rounded = half_frozen()
    around = Surroundings(
        objective, point_of=lambda _: {name: tensor.clone() for name, tensor in rounded.items()},
        gradient=lambda: torch.ones(objective.dimension, dtype=torch.float64),
    )  # fmt: skip
    options = LineOptions(kinds=("to:a", "gradient"), steps=5)
    frames = LineFrames(around, options)
    before = measure_lines(objective, base_point=objective.point, options=options, frames=frames)
    end = frames.frame("to:a", around).directions[0].end
    assert end is not None
    held = [weakref.ref(tensor) for tensor in end.values()]
    del end
    frames.let_go()
    assert all(reference() is None for reference in held)
    after = measure_lines(objective, base_point=objective.point, options=options, frames=frames)
    assert [line.loss for line in after] == [line.loss for line in before]


@pytest.mark.parametrize("kinds", [("path:1",), ("random", "path")])
def test_a_path_is_no_line_around_a_variant(kinds: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="path=true"):
        LineOptions(kinds=kinds)


@pytest.mark.parametrize("pair", [("error", "random"), ("path", "random"), ("random", "error:1")])
def test_a_variants_own_direction_spans_no_shared_plane(pair: tuple[str, str]) -> None:
    with pytest.raises(ValidationError, match="another direction for each variant"):
        PlaneOptions(pairs=(pair,))
