"""Rounded activations: the estimator, the frozen smooth function, and their exact Hessians."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.curvature import HessianOperator
from quant_lens_engine.curvature.dense import as_dense
from quant_lens_engine.curvature.sample_spread import spread_over_shards
from quant_lens_engine.errors import NumericalError, SchemeError
from quant_lens_engine.evaluation import evaluate
from quant_lens_engine.landscape import measure_lines, random_directions
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import QuantizedVariant, fake_quantize, quantize, quantized_forward
from quant_lens_engine.quantization.activation import Activation
from quant_lens_engine.quantization.activation_quantizer import ActivationQuantizer, PassControl, Tape
from quant_lens_engine.quantizers._minifloat import E2M1
from quant_lens_engine.schema import ActivationFormat, parse_scheme
from quant_lens_engine.schema.analyses import LineOptions

LAYER = Activation("layer", "layer")
CONVOLUTION = Activation("conv", "conv", spatial=True)
FORMATS = {
    "static": ActivationFormat(bits=4),
    "static symmetric": ActivationFormat(bits=4, symmetric=True),
    "static fp8": ActivationFormat(format="fp8-e4m3"),
    "dynamic": ActivationFormat(bits=4, dynamic=True),
    "dynamic asymmetric": ActivationFormat(bits=4, dynamic=True, symmetric=False),
    "dynamic a row": ActivationFormat(bits=4, dynamic=True, granularity="tensor"),
    "groups": ActivationFormat(bits=4, group_size=4),
    "mxfp4": ActivationFormat(format="mxfp4"),
    "nvfp4": ActivationFormat(format="nvfp4"),
    "nvfp4 dynamic": ActivationFormat(format="nvfp4", dynamic=True),
    "nf4": ActivationFormat(format="nf4", dynamic=True),
}
SCHEMES = [
    "w8a8", "w4a4", "w8a8-dynamic", "w4a4-dynamic", "int4-act-int4-tensor-dynamic", "int4-act-int4-g4", "w8a8-fp8",
    "w8a8-fp8-dynamic", "w4a4-mxfp4", "w4a4-nvfp4", "w4a4-nvfp4-dynamic", "int4-act-nf4-dynamic", "w4a8-percentile",
    "w4a8-moving-average",
]  # fmt: skip


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=FORMATS)
def quantizer(request: pytest.FixtureRequest) -> ActivationQuantizer:
    """Calibrated to a range that some of the values below lie beyond."""
    fmt = FORMATS[request.param]
    made = ActivationQuantizer(LAYER, fmt, PassControl())
    with made.control.during("watch"):
        made(seeded(40, 6, 20, seed=9) / 2)
    made.settle()
    return made


OF_TOKENS = {"dynamic": "int4", "dynamic asymmetric": "int4-asym", "groups": "int4-g4", "mxfp4": "mxfp4", "nf4": "nf4"}
"""What is a row of weights there is a token here."""


def expected(quantizer: ActivationQuantizer, x: Tensor) -> tuple[Tensor, Tensor]:
    """Q(x) and the mask of what is rounded, not clipped."""
    name = next(name for name, fmt in FORMATS.items() if fmt is quantizer.fmt)
    everything = torch.ones_like(x, dtype=torch.bool)
    if name in OF_TOKENS:
        rounded = fake_quantize(x.reshape(-1, x.shape[-1]), OF_TOKENS[name]).reshape(x.shape)
        return rounded, everything if name != "mxfp4" else x.abs() <= 7 * mx_scale(x)
    if name == "dynamic a row":
        return fake_quantize(x.reshape(len(x), -1), "int4").reshape(x.shape), everything
    if name == "nvfp4 dynamic":
        return torch.stack([fake_quantize(row, "nvfp4") for row in x]), everything
    low, high = float(quantizer.span.low), float(quantizer.span.high)
    amax = max(-low, high)
    if name == "nvfp4":
        return static_nvfp4(x, amax)
    steps = {"static": 15 / (high - low), "static symmetric": 7 / amax, "static fp8": 448 / amax}[name]
    scale = torch.tensor(1 / steps).double()
    if name == "static fp8":
        return (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn).double() * scale, x.abs() <= 464 * scale
    zero, least, most = (round(-low / float(scale)), 0, 15) if name == "static" else (0, -7, 7)
    rounded = ((x * scale.reciprocal()).round() + zero).clamp(least, most).sub(zero) * scale
    return rounded, (x >= (least - 0.5 - zero) * scale) & (x <= (most + 0.5 - zero) * scale)


def mx_scale(x: Tensor) -> Tensor:
    """One for 20 features, which are fewer than a block."""
    return torch.exp2(torch.floor(torch.log2(x.abs().amax(-1, keepdim=True))) - 2)


def static_nvfp4(x: Tensor, amax: float) -> tuple[Tensor, Tensor]:
    tensor_scale = torch.tensor(amax / 2688).double()
    rounded, mask = torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)
    for columns in (slice(0, 16), slice(16, 20)):
        block = x[..., columns]
        wanted = (block.abs().amax(-1, keepdim=True) / 6 / tensor_scale).clamp(2.0**-6, 448)
        scale = wanted.to(torch.float8_e4m3fn).double()
        rounded[..., columns] = E2M1.nearest(block * (tensor_scale.reciprocal() / scale)) * (scale * tensor_scale)
        mask[..., columns] = block.abs() <= 7 * (scale * tensor_scale)
    return rounded, mask


def test_the_value_is_the_rounded_one_and_the_derivative_its_mask(quantizer: ActivationQuantizer) -> None:
    x = seeded(3, 6, 20)
    rounded, mask = expected(quantizer, x)
    leaf = x.clone().requires_grad_()
    out = quantizer(leaf)
    assert torch.equal(out, rounded)
    weights = seeded(3, 6, 20, seed=1)
    (gradient,) = torch.autograd.grad((out * weights).sum(), leaf)
    assert torch.equal(gradient, weights * mask)
    assert mask.double().mean() > 0.8
    if not quantizer.fmt.dynamic:
        assert not mask.all(), "the case has something to clip"


def test_second_derivatives_in_every_mode(quantizer: ActivationQuantizer) -> None:
    """Of Σ Q(x)³: 3 Q² m, then 6 Q m² t."""
    x, tangent = seeded(3, 6, 20), seeded(3, 6, 20, seed=1)
    rounded, mask = expected(quantizer, x)

    def cubed(values: Tensor) -> Tensor:
        return quantizer(values).pow(3).sum()

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cubed(leaf), leaf, create_graph=True)
    torch.testing.assert_close(gradient, 3 * rounded**2 * mask)
    (product,) = torch.autograd.grad((gradient * tangent).sum(), leaf)
    torch.testing.assert_close(product, 6 * rounded * mask * tangent)
    _, over = torch.func.jvp(torch.func.grad(cubed), (x,), (tangent,))
    torch.testing.assert_close(over, product)
    _, forward = torch.func.jvp(cubed, (x,), (tangent,))
    torch.testing.assert_close(forward, (3 * rounded**2 * mask * tangent).sum())
    stack = torch.stack([x, 0.5 * x + 0.1])
    torch.testing.assert_close(
        torch.func.vmap(torch.func.grad(cubed))(stack), torch.stack([torch.func.grad(cubed)(item) for item in stack])
    )


def test_replayed_it_is_a_straight_line_through_the_rounded_value(quantizer: ActivationQuantizer) -> None:
    x = seeded(3, 6, 20)
    rounded, mask = expected(quantizer, x)
    tape = Tape()
    with quantizer.control.during("record", tape):
        assert torch.equal(quantizer(x), rounded)
    for step in (0.0, 0.3, 5.0):
        with quantizer.control.during("replay", tape):
            torch.testing.assert_close(quantizer(x + step), rounded + mask * step)
    with quantizer.control.during("replay", tape), pytest.raises(NumericalError) as refused:
        quantizer(x[:2])
    assert refused.value.code == "changing_path"


def test_rows_do_not_look_at_each_other(quantizer: ActivationQuantizer) -> None:
    x = seeded(5, 6, 20) * torch.tensor([0.01, 1.0, 100.0, 1.0, 0.1], dtype=torch.float64)[:, None, None]
    whole = quantizer(x)
    for row in range(5):
        assert torch.equal(quantizer(x[row : row + 1]), whole[row : row + 1])


def test_tokens_have_scales_of_their_own() -> None:
    made = ActivationQuantizer(LAYER, FORMATS["dynamic"], PassControl())
    x = seeded(2, 6, 20)
    changed = x.clone()
    changed[0, 3] *= 1000
    before, after = made(x), made(changed)
    others = [0, 1, 2, 4, 5]
    assert torch.equal(before[0, others], after[0, others])
    assert torch.equal(before[1], after[1])


def test_before_a_convolution_a_token_is_a_row_and_features_lie_on_the_second_axis() -> None:
    x = seeded(3, 8, 5, 5)
    live = ActivationQuantizer(CONVOLUTION, FORMATS["dynamic"], PassControl())
    assert torch.equal(live(x), fake_quantize(x.reshape(3, -1), "int4").reshape(x.shape))
    groups = ActivationQuantizer(CONVOLUTION, FORMATS["groups"], PassControl())
    moved = x.movedim(1, -1)
    expected_groups = fake_quantize(moved.reshape(-1, 8), "int4-g4").reshape(moved.shape).movedim(-1, 1)
    assert torch.equal(groups(x), expected_groups)


# ---- networks


def tokens_network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3))


def cnn() -> nn.Module:
    return nn.Sequential(nn.Conv1d(3, 4, 3, bias=False), nn.BatchNorm1d(4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"tokens": tokens_network, "cnn": cnn}


def objective_of(name: str, micro_batch: int | None = None) -> Objective:
    torch.manual_seed(0)
    model = NETWORKS[name]().double()
    x, y = seeded(17, 3, 5), torch.arange(17) % 3
    return Objective(model, [(x[:9], y[:9]), (x[9:], y[9:])], micro_batch=micro_batch)


@pytest.fixture(params=NETWORKS)
def objective(request: pytest.FixtureRequest) -> Objective:
    return objective_of(request.param)


def dense(function: Objective) -> Tensor:
    """∇²L by torch.func over the whole sample, at the objective's point."""
    names = list(function.free)
    shapes = [function.point[name].shape for name in names]
    flat = torch.cat([function.point[name].reshape(-1) for name in names])

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([shape.numel() for shape in shapes])
        point = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        total, weight = vector.new_zeros(()), 0.0
        for batch in function.batches():
            terms = function.terms(batch, function.point | point)
            total, weight = total + terms.losses.sum(), weight + float(terms.weights.sum())
        return total / weight

    return torch.autograd.functional.hessian(loss, flat, vectorize=True)


def differences(function: Objective, direction: Tensor, step: float) -> float:
    """dᵀHd by second differences of the loss."""
    shapes = [function.point[name].shape for name in function.free]
    pieces = direction.split([shape.numel() for shape in shapes])

    def at(alpha: float) -> float:
        return function.at(
            {
                name: function.point[name] + alpha * piece.view(shape)
                for name, piece, shape in zip(function.free, pieces, shapes, strict=True)
            }
        ).loss()

    return (at(step) - 2 * at(0.0) + at(-step)) / step**2


@pytest.mark.parametrize("scheme", ["w8a8", "w4a4-dynamic", "w4a4-nvfp4", "int4-act-int4-g4"])
def test_the_hessian_is_that_of_the_frozen_smooth_function(objective: Objective, scheme: str) -> None:
    variant = quantize(objective.model, scheme, objective)
    ours = as_dense(HessianOperator(variant.live(objective)))
    smooth = variant.smooth(objective)
    exact = dense(smooth)
    assert (ours - exact).abs().max() < 1e-8 * exact.abs().max()
    direction = seeded(len(exact), seed=5)
    curved = differences(smooth, direction / direction.norm(), 1e-3)
    assert curved == pytest.approx(float(direction @ exact @ direction / direction.norm() ** 2), rel=1e-4, abs=1e-6)
    plain = dense(objective.at(variant.point))
    assert (ours - plain).abs().max() > 1e-4 * plain.abs().max(), "rounding has moved it"


@pytest.mark.parametrize("recipe", ["int3", "nf4-g4", "int4+gptq", "int3+fold-batchnorm", "float+qat:steps=2"])
def test_the_hessian_of_rounded_weights_is_the_exact_one_at_that_point(objective: Objective, recipe: str) -> None:
    if recipe.endswith("fold-batchnorm") and not any(isinstance(m, nn.BatchNorm1d) for m in objective.model.modules()):
        recipe = "int3+awq"
    variant = quantize(objective.model, recipe, objective)
    ours, exact = as_dense(HessianOperator(variant.live(objective))), dense(objective.at(variant.point))
    assert (ours - exact).abs().max() < 1e-10 * max(1.0, float(exact.abs().max()))


def test_parts_of_the_sample_keep_the_offsets_of_their_own_rows(objective: Objective) -> None:
    """The parts' Hessians add up to the whole one, also where it has been computed before; so the spread over shards,
    taken from the same products, has the residual of the whole operator."""
    smooth = quantize(objective.model, parse_scheme("w4a4-dynamic"), objective).smooth(objective)
    vector = torch.randn(smooth.dimension, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    vector /= vector.norm()
    whole = HessianOperator(smooth).matvec(vector)
    parts = torch.arange(smooth.samples).tensor_split(3)
    operators = [HessianOperator(smooth.select(rows)) for rows in parts]
    total = torch.stack([operator.matvec(vector) * operator.weight for operator in operators]).sum(0)
    expected = total / sum(operator.weight for operator in operators)
    torch.testing.assert_close(expected, whole, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(HessianOperator(smooth.regrouped(2)).matvec(vector), whole, rtol=1e-9, atol=1e-12)
    spread = spread_over_shards(smooth, vector[None], seed=0, products=HessianOperator)
    assert spread.residuals[0] == pytest.approx(float((whole - vector.dot(whole) * vector).norm()), rel=1e-6)


def test_live_rounding_has_no_useful_differences(objective: Objective) -> None:
    """The staircase's second difference is orders of magnitude off; hence the frozen offsets."""
    variant = quantize(objective.model, "w8a8-dynamic", objective)
    live = variant.live(objective)
    operator, direction = HessianOperator(live), seeded(live.dimension, seed=5)
    direction = direction / direction.norm()
    honest = float(direction @ operator.matvec(direction))
    assert abs(differences(live, direction, 1e-3)) > 10 * abs(honest)


@pytest.mark.parametrize("scheme", ["w4a8", "w4a4-dynamic", "w8a8-mxint8"])
def test_the_smooth_line_bends_as_the_hessian_says(objective: Objective, scheme: str) -> None:
    variant = quantize(objective.model, scheme, objective)
    (direction,) = random_directions(objective, objective.point, 1, seed=3)
    lines = measure_lines(
        objective, base_point=objective.point, variant=variant.live(objective), smooth=variant.smooth(objective),
        redeploy=variant.redeploy, options=LineOptions(directions=1, steps=3, distance=1e-3), seed=3,
    )  # fmt: skip
    low, centre, high = next(line for line in lines if line.landscape == "smooth").loss
    flat = torch.cat([direction[name].reshape(-1) for name in objective.free])
    product = HessianOperator(variant.live(objective)).matvec(flat)
    assert (low - 2 * centre + high) / 1e-6 == pytest.approx(float(flat @ product), rel=1e-3)


def smooth_losses(objective: Objective, variant: QuantizedVariant) -> list[float | None]:
    lines = measure_lines(
        objective, base_point=objective.point, variant=variant.live(objective), smooth=variant.smooth(objective),
        options=LineOptions(directions=2, steps=5), seed=3,
    )  # fmt: skip
    return [loss for line in lines for row in line.per_direction for loss in row]


@pytest.mark.parametrize("scheme", ["w4a8", "w4a4-dynamic"])
def test_without_memory_for_tapes_the_digits_are_the_same(
    objective: Objective, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = quantize(objective.model, scheme, objective)
    kept = smooth_losses(objective, variant)
    size = {"cpu": 0, "cuda": 0}
    monkeypatch.setattr(quantized_forward, "FROZEN_BYTES", size)
    assert smooth_losses(objective, variant) == kept
    monkeypatch.setattr(quantized_forward, "FROZEN_BYTES", {"cpu": 4000, "cuda": 4000})
    assert smooth_losses(objective, variant) == kept


@pytest.mark.parametrize("scheme", SCHEMES)
def test_at_the_origin_every_line_is_the_evaluated_loss(objective: Objective, scheme: str) -> None:
    variant = quantize(objective.model, scheme, objective)
    evaluated = evaluate(variant.live(objective)).loss
    lines = measure_lines(
        objective, base_point=objective.point, variant=variant.live(objective), smooth=variant.smooth(objective),
        redeploy=variant.redeploy, options=LineOptions(directions=1, steps=3, distance=0.1),
    )  # fmt: skip
    assert [line.landscape for line in lines] == ["deployed", "smooth"]
    assert all(line.loss[1] == evaluated for line in lines)
    assert variant.smooth(objective).loss() == pytest.approx(evaluated, rel=1e-12)
    point, forward = variant.redeploy(objective.point)
    assert objective.through(forward).at(point).loss() == evaluated


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_depends_on_the_micro_batch(objective: Objective, scheme: str) -> None:
    name = "tokens" if isinstance(objective.model[0], nn.Linear) else "cnn"
    losses, spans = [], []
    for micro_batch in (None, 1, 5, 17):
        other = objective_of(name, micro_batch)
        variant = quantize(other.model, scheme, other)
        measured = variant.live(other).measure(rowwise=True)
        losses.append(measured.losses)
        spans.append([(item.low, item.high) for item in variant.activations])
    for one, two in itertools.pairwise(losses):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)
    if "dynamic" not in scheme:
        assert all(span == pytest.approx(other) for one, two in itertools.pairwise(spans)
                   for span, other in zip(one, two, strict=True) if span[0] is not None)  # fmt: skip


def test_the_deployed_line_calibrates_static_ranges_anew() -> None:
    """The first layer three times as large: its output's range is three times as wide, and so is the deployed one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 2, bias=False)).double()
    x = seeded(30, 4)
    objective = Objective(model, [(x, torch.arange(30) % 2)])
    variant = quantize(objective.model, "w16a4", objective)
    moved = {**objective.point, "0.weight": 3 * objective.point["0.weight"]}
    point, forward = variant.redeploy(moved)
    assert variant.forward is not None
    assert forward is not None
    for name, factor in (("0", 1), ("1", 3)):
        own, other = variant.forward.quantizers[name].span, forward.quantizers[name].span
        torch.testing.assert_close(other.high.double(), factor * own.high.double(), rtol=1e-6, atol=0)
    deployed = objective.through(forward).at(point).loss()
    frozen_ranges = objective.through(variant.forward).at(moved).loss()
    assert deployed != frozen_ranges
    scaled = fake_quantize_static(x, model, 3.0)
    assert deployed == pytest.approx(float(nn.functional.cross_entropy(scaled, torch.arange(30) % 2)), rel=1e-6)


def fake_quantize_static(x: Tensor, model: nn.Module, factor: float) -> Tensor:
    """Both layers with inputs on 16 affine steps, by hand; ranges from the float pass."""

    def four_bits(values: Tensor, reference: Tensor) -> Tensor:
        low, high = (float(end.float()) for end in reference.aminmax())
        scale = float(torch.tensor((high - low) / 15))
        zero = round(-low / scale)
        return ((values / scale).round() + zero).clamp(0, 15).sub(zero).mul(scale)

    first, second = (layer.weight.detach() for layer in model)
    hidden = four_bits(x, x) @ (factor * first).T
    return four_bits(hidden, x @ (factor * first).T) @ second.T


def test_dynamic_ranges_need_no_calibration_and_static_ones_do() -> None:
    model = tokens_network().double()
    assert quantize(model, "w8a8-dynamic").activations == []
    with pytest.raises(SchemeError) as refused:
        quantize(model, "w8a8")
    assert refused.value.code == "needs_calibration"


def test_activations_are_listed_in_the_order_in_which_they_are_met(objective: Objective) -> None:
    variant = quantize(objective.model, "w8a8", objective)
    rounded = [item.name for item in variant.activations]
    assert rounded == [layer.name for layer in variant.layers]
    first = variant.activations[0]
    x = torch.cat([batch.content[0] for batch in objective.batches()])
    assert (first.low, first.high) == pytest.approx((float(x.min()), float(x.max())), rel=1e-6)
    assert parse_scheme("w8a8").activations.name == first.format


def test_a_calibration_row_that_overflows_is_named() -> None:
    class Overflow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.exp(1e4 * self.first(x)))

    torch.manual_seed(0)
    objective = Objective(Overflow(), [(seeded(8, 2).float(), torch.arange(8) % 2)])
    for scheme in ("w8a8", "w8a8-percentile", "w8a8-moving-average", "w8a8-entropy"):
        with pytest.raises(NumericalError, match="input of second") as refused:
            quantize(objective.model, scheme, objective)
        assert refused.value.code == "non_finite_activations"
