"""Lines through landscapes whose shape is known."""

import copy
import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.curvature import HessianOperator
from quant_lens_engine.errors import Cancelled, InputError
from quant_lens_engine.evaluation import evaluate
from quant_lens_engine.landscape import basin_width, filter_normalized, measure_lines, random_directions, trace_1d_loss
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema.analyses import LineOptions
from quant_lens_engine.schema.run_result import Line

Batches = list[tuple[Tensor, Tensor]]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def float_lines(objective: Objective, **options: float) -> list[Line]:
    return measure_lines(objective, base_point=objective.point, options=LineOptions(**options), seed=3)


def test_a_quadratic_loss_gives_exact_parabolas() -> None:
    """L(w + αd) = L + α gᵀd + ½ α² dᵀHd for linear regression."""
    x, y = random(47, 6), random(47, 3, seed=1)
    batches = [(x[:20], y[:20]), (x[20:40], y[20:40]), (x[40:], y[40:])]
    objective = Objective(nn.Linear(6, 3).double(), batches, task="regression")
    directions = random_directions(objective, objective.point, 4, seed=3)
    smooth = float_lines(objective, directions=4, steps=21, distance=2.0)[-1]
    for direction, losses in zip(directions, smooth.per_direction, strict=True):
        flat = torch.cat([direction[name].reshape(-1) for name in objective.free])
        curvature = float(flat @ HessianOperator(objective).matvec(flat))
        parabola = np.polynomial.Polynomial.fit(smooth.alphas, losses, 2).convert()
        assert parabola.coef[2] == pytest.approx(curvature / 2, rel=1e-10)
        assert parabola.coef[0] == pytest.approx(objective.loss(), rel=1e-10)
        assert np.allclose(parabola(np.array(smooth.alphas)), losses, rtol=1e-11)


TINY = 1e-200  # torch refuses a BatchNorm with eps = 0


class Normalised(nn.Module):
    """Two convolutions, each before a BatchNorm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=TINY)
        self.second, self.second_norm = nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, eps=TINY)
        self.head = nn.Linear(5, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first_norm(self.first(x)))
        x = torch.relu(self.second_norm(self.second(x)))
        return self.head(x.mean((2, 3)))


def rescaled(model: Normalised, factor: float) -> Normalised:
    """The same function: weights before a BatchNorm times c, its running mean times c, its variance times c²."""
    twin = copy.deepcopy(model)
    for convolution, norm, c in (
        (twin.first, twin.first_norm, factor),
        (twin.second, twin.second_norm, 1 / factor),
    ):
        with torch.no_grad():
            convolution.weight.mul_(c)
            convolution.bias.mul_(c)
            norm.running_mean.mul_(c)
            norm.running_var.mul_(c**2)
    return twin


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_a_rescaled_batchnorm_network_gives_the_same_line(factor: float, digits: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    x, y = digits[0][:90].double(), digits[1][:90]
    model = Normalised().double()
    with torch.no_grad():
        model.head.weight.mul_(10)
        for _ in range(30):
            model(x)  # running statistics
    twin = rescaled(model, factor)
    assert torch.allclose(model.eval()(x), twin.eval()(x), rtol=1e-9)
    one, two = (float_lines(Objective(network, [(x, y)]), directions=2, steps=11)[-1] for network in (model, twin))
    assert max(one.loss) - min(one.loss) > 0.1, "a flat line would prove nothing"
    assert np.allclose(two.per_direction, one.per_direction, rtol=1e-9)
    plain = Objective(model, [(x, y)]), Objective(twin, [(x, y)])
    vector = torch.zeros(plain[0].dimension, dtype=torch.float64)
    vector[: model.first.weight.numel()] = random(model.first.weight.numel())
    curvatures = [float(vector @ HessianOperator(objective).matvec(vector)) for objective in plain]
    assert curvatures[1] == pytest.approx(curvatures[0] / factor**2, rel=1e-8), "while curvature itself does change"


def test_sixteen_bits_and_float_share_their_directions(digits_cnn: nn.Module, digits_batches: Batches) -> None:
    objective = Objective(digits_cnn, digits_batches)
    variant = quantize(digits_cnn, "int16")
    options = LineOptions(directions=2, steps=11)
    float_line = float_lines(objective, directions=2, steps=11)[-1]
    lines = measure_lines(
        objective, base_point=objective.point, variant=variant.live(objective), redeploy=variant.redeploy,
        options=options, seed=3,
    )  # fmt: skip
    assert [line.landscape for line in lines] == ["deployed", "smooth"]
    for line in lines:
        assert np.allclose(line.per_direction, float_line.per_direction, rtol=2e-3, atol=1e-4)
    one, two = np.array(float_line.per_direction)
    assert np.abs(one - two).max() > 0.1, "two directions differ by far more"


@pytest.mark.parametrize("scheme", ["int8", "int3"])
def test_zero_is_on_the_grid_and_is_the_evaluated_loss(
    scheme: str, digits_cnn: nn.Module, digits_batches: Batches
) -> None:
    objective = Objective(digits_cnn, digits_batches)
    variant = quantize(digits_cnn, scheme)
    evaluated = evaluate(objective.at(variant.point))
    lines = measure_lines(
        objective, base_point=objective.point, variant=variant.live(objective), redeploy=variant.redeploy,
        options=LineOptions(directions=2, steps=4),
    )  # fmt: skip
    for line in lines:
        assert line.alphas == [-1, -0.5, 0, 0.5, 1]
        assert (line.loss[2], line.accuracy[2]) == (evaluated.loss, evaluated.accuracy)
        assert line.band.low[2] == line.band.high[2] == evaluated.loss


def test_the_deployed_line_is_a_staircase_and_the_smooth_one_is_not() -> None:
    """One weight w = 0.6 on a grid of whole numbers, L = (w − 0.6)²: Q(w + αd) jumps at ±0.5."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.6)
    objective = Objective(model, [(torch.ones(1, 1), torch.full((1, 1), 0.6))], task="regression")

    def whole(point: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        return {name: tensor.round() for name, tensor in point.items()}, None

    deployed, smooth = measure_lines(
        objective, base_point=objective.point, variant=objective.at(whole(objective.point)[0]), redeploy=whole,
        options=LineOptions(directions=1, steps=9, distance=1.0),
    )  # fmt: skip
    moved = [0.6 * (1 + alpha) for alpha in deployed.alphas]
    if float(random_directions(objective, objective.point, 1, 0)[0]["weight"]) < 0:
        moved.reverse()
    assert deployed.loss == pytest.approx([(round(w) - 0.6) ** 2 for w in moved], abs=1e-6)
    assert smooth.loss == pytest.approx([(1 + w - 0.6 - 0.6) ** 2 for w in moved], abs=1e-6)
    assert len(set(np.round(deployed.loss, 5))) == 2


def test_float_lines_coincide_and_are_measured_once(digits_mlp: nn.Module, digits_batches: Batches) -> None:
    objective = Objective(digits_mlp, digits_batches)
    deployed, smooth = float_lines(objective, directions=2, steps=5)
    assert (deployed.landscape, smooth.landscape) == ("deployed", "smooth")
    assert deployed.model_dump(exclude={"landscape"}) == smooth.model_dump(exclude={"landscape"})


def test_a_variant_that_cannot_be_quantized_again_has_no_deployed_line(
    digits_mlp: nn.Module, digits_batches: Batches
) -> None:
    objective = Objective(digits_mlp, digits_batches)
    lines = measure_lines(
        objective, base_point=objective.point, variant=objective.at(quantize(digits_mlp, "int4").point),
        options=LineOptions(directions=1, steps=3),
    )  # fmt: skip
    assert [line.landscape for line in lines] == ["smooth"]
    assert lines[0].band is None


def test_an_overflow_is_a_gap_with_a_reason() -> None:
    class Explosive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((1, 1), 60.0))

        def forward(self, x: Tensor) -> Tensor:
            return torch.exp(x @ self.weight)

    objective = Objective(Explosive(), [(torch.ones(2, 1), torch.zeros(2, 1))], task="regression")
    line = float_lines(objective, directions=1, steps=3, distance=1.0)[-1]
    assert line.loss.count(None) == 2, "e¹²⁰ and its square overflow; e⁶⁰ squared does too"
    assert "not finite at 2 of 3" in (line.reason or "")


def test_filters_are_rows_channels_and_never_vectors() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(5, 3),
            "conv": nn.Conv2d(4, 6, 3, groups=2),
            "transposed": nn.ConvTranspose2d(6, 4, 3, groups=2),
            "norm": nn.BatchNorm2d(4),
            "embedding": nn.Embedding(7, 5),
            "attention": nn.MultiheadAttention(4, 2),
            "recurrent": nn.LSTM(3, 4),
        }
    )
    with torch.no_grad():
        model["linear"].weight[1] = 0
    point = {name: tensor.detach() for name, tensor in model.named_parameters()}
    drawn = {name: torch.randn_like(tensor, dtype=torch.float64) for name, tensor in point.items()}
    scaled = filter_normalized(drawn, point, model)
    for name, tensor in scaled.items():
        if tensor.ndim < 2:
            assert not tensor.any(), name
        elif name != "transposed.weight":
            own, new = (t.double().flatten(1).norm(dim=1) for t in (point[name], tensor))
            assert torch.allclose(own, new, rtol=1e-6), name
    weight, direction = point["transposed.weight"].double(), scaled["transposed.weight"]
    for group in range(2):
        for channel in range(2):
            filter_ = (slice(3 * group, 3 * group + 3), channel)
            assert direction[filter_].norm() == pytest.approx(float(weight[filter_].norm()), rel=1e-6)
            ratio = direction[filter_] / drawn["transposed.weight"][filter_]
            assert torch.allclose(ratio, ratio.flatten()[0].expand_as(ratio)), "one factor a filter"
    assert not scaled["linear.weight"][1].any(), "a zero filter stays where it is"


def test_frozen_parameters_do_not_move_and_tied_ones_move_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    model[1].requires_grad_(False)
    objective = Objective(model, [(torch.eye(4), torch.arange(4))])
    (direction,) = random_directions(objective, objective.point, 1, seed=0)
    assert set(direction) == {"0.weight", "0.bias", "2.bias"}


def test_directions_are_by_seed_and_index(digits_mlp: nn.Module, digits_batches: Batches) -> None:
    objective = Objective(digits_mlp, digits_batches[:1])
    two, five = (random_directions(objective, objective.point, count, seed=1) for count in (2, 5))
    other = random_directions(objective, objective.point, 1, seed=2)
    assert all(torch.equal(two[i][name], five[i][name]) for i in range(2) for name in two[0])
    weight = next(name for name, tensor in two[0].items() if tensor.ndim == 2)
    assert not torch.equal(two[0][weight], two[1][weight])
    assert not torch.equal(two[0][weight], other[0][weight])


def test_trace_1d_loss_samples_zero_and_leaves_the_model_alone(digits_mlp: nn.Module, digits_batches: Batches) -> None:
    model = copy.deepcopy(digits_mlp).train()
    before = copy.deepcopy(model.state_dict())
    alphas, losses = trace_1d_loss(model, digits_batches, nn.CrossEntropyLoss(), "cpu", distance=0.5, steps=50)
    assert (len(alphas), alphas[0], alphas[25], alphas[-1]) == (51, -0.5, 0, 0.5)
    assert losses[25] == Objective(digits_mlp, digits_batches).loss()
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_trace_1d_loss_refuses_a_model_without_weights_to_move() -> None:
    quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 2)), {nn.Linear})
    with pytest.raises(InputError) as caught:
        trace_1d_loss(quantized, [(torch.zeros(1, 4), torch.tensor([0]))])
    assert caught.value.code == "no_parameters"


@pytest.mark.parametrize(
    ("losses", "width"),
    [
        ([4, 1, 0, 1, 4], 2.0),
        ([9, 9, 0, 9, 9], 2 / 9),
        ([1, 1, 0, 1, 1.5], None),
        ([3, 0, 0, 0, 2], 1.5 + 4 / 3),
        ([0.5, 0.5, 0, 0.5, 4], None),
        ([None, 0.5, 0, 0.5, None], 2.0),
        ([4, 1, None, 1, 4], None),
    ],
)
def test_basin_width(losses: list[float | None], width: float | None) -> None:
    found = basin_width([-2, -1, 0, 1, 2], losses, rise=1.0)
    assert found == (None if width is None else pytest.approx(width))


def test_lines_stop_when_asked() -> None:
    class Impatient:
        def __init__(self) -> None:
            self.reports: list[tuple[int, int]] = []

        def report(self, stage: str, done: int, total: int, note: str = "") -> None:
            self.reports.append((done, total))

        def check_cancelled(self) -> None:
            if len(self.reports) == 3:
                raise Cancelled("stop")

    progress = Impatient()
    objective = Objective(nn.Linear(2, 2), [(torch.eye(2), torch.tensor([0, 1]))])
    with pytest.raises(Cancelled):
        measure_lines(objective, base_point=objective.point, options=LineOptions(distance=1), progress=progress)
    assert progress.reports == [(1, 91), (2, 91), (3, 91)]
    assert math.isfinite(objective.loss())
