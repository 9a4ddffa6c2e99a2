"""What every scheme owes, on every kind of layer. Runs over the catalog: a new scheme is tested the day it lands."""

import copy

import pytest
import torch
from torch import nn

from quant_lens_engine.errors import CheckpointError, NumericalError
from quant_lens_engine.filters import filter_layouts
from quant_lens_engine.quantization import available_schemes, fake_quantize, quantize
from quant_lens_engine.quantization.blocks import (
    block_qparams,
    count_blocks,
    join_blocks,
    round_trip,
    split_blocks,
    tensor_span,
)
from quant_lens_engine.quantization.grid import observe_grid
from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema import QuantizationScheme, parse_scheme

NAMED = ["codebook[-1:-0.25:0:0.5:1]-g8", "int4-g32-e8m0scales", "int4-g32-fp32scales", "int8-fp16scales", "nf4"]
OFFERED = [facts.name for facts in available_schemes() if facts.family != "activations"]
SCHEMES = [*OFFERED, "fp8-e4m3-b4", "fp8-e5m2-g32", "int4-b8-asym", *NAMED]
LAYERS = {
    "linear": lambda: nn.Linear(37, 5),
    "conv1d": lambda: nn.Conv1d(6, 4, 3, groups=2),
    "conv2d": lambda: nn.Conv2d(3, 5, 3),
    "conv3d": lambda: nn.Conv3d(2, 3, 2),
    "transposed1d": lambda: nn.ConvTranspose1d(6, 4, 3, groups=2),
    "transposed2d": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "transposed3d": lambda: nn.ConvTranspose3d(2, 3, 2),
    "embedding": lambda: nn.Embedding(11, 6, padding_idx=0),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "attention-of-other-widths": lambda: nn.MultiheadAttention(8, 2, kdim=6, vdim=4),
}


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> QuantizationScheme:
    return parse_scheme(request.param)


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[request.param]()


def step_of(scheme: QuantizationScheme, span: torch.Tensor) -> torch.Tensor:
    """The widest distance between two neighbouring values of a format that holds ``span`` (amax, or high − low)."""
    if scheme.format == "integer":
        steps = 2**scheme.bits - (2 if scheme.symmetric and not scheme.full_range else 1)
        step = span / (steps / (2 if scheme.symmetric else 1))
        return step * (2 if scheme.scale_dtype == "e8m0" else 1)
    if scheme.levels:
        reach = max(abs(level) for level in scheme.levels)
        widest = max(high - low for low, high in zip(scheme.levels, scheme.levels[1:], strict=False))
        return span * widest / reach
    # a float's widest step is that of its top binade; MX's floor rule clips up to a quarter of the range beyond it
    mantissa = {"fp8-e4m3": 3, "fp8-e5m2": 2, "mxfp4": 1, "mxfp6-e2m3": 3, "mxfp6-e3m2": 2, "mxfp8-e4m3": 3,
                "mxfp8-e5m2": 2, "mxint8": 6, "nvfp4": 1}[scheme.format]  # fmt: skip
    return span * 2.0 ** (-mantissa + (1 if scheme.scale_dtype in ("e8m0", "e4m3") else 0))


def test_a_layer_is_rounded_and_nothing_else_changes(layer: nn.Module, scheme: QuantizationScheme) -> None:
    before = copy.deepcopy(layer.state_dict())
    variant = quantize(layer, scheme)
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())
    assert set(variant.point) == {name for name, _ in layer.named_parameters()}
    rounded = {item.parameter for item in variant.layers}
    assert rounded
    for name, parameter in layer.named_parameters():
        value = variant.point[name]
        assert (value.shape, value.dtype, value.device) == (parameter.shape, parameter.dtype, parameter.device)
        assert torch.equal(value, parameter) != (name in rounded)


def test_each_weight_goes_to_a_level_near_it(layer: nn.Module, scheme: QuantizationScheme) -> None:
    variant, layouts = quantize(layer, scheme), filter_layouts(layer)
    for item in variant.layers:
        source = layouts[item.parameter].rows(dict(layer.named_parameters())[item.parameter].detach())
        values = layouts[item.parameter].rows(variant.point[item.parameter])
        blocks = list(zip(split_blocks(values, scheme), split_blocks(source, scheme), strict=True))
        for value, before in blocks:
            if scheme.granularity != "block":
                assert max(len(block.unique()) for block in value.flatten(0, -2)) <= 2**scheme.bits
            low, high = before.amin(-1).clamp(max=0), before.amax(-1).clamp(min=0)
            span = high - low if not scheme.symmetric else torch.maximum(-low, high)
            if scheme.granularity == "block" or scheme.format == "nvfp4":
                span = torch.full_like(span, float(source.abs().max()) * (1 if scheme.symmetric else 2))
            step = step_of(scheme, span)
            # half a step, and one where a zero point clips; what the scale's own rounding adds
            slack = {"float16": 2.0**-10, "float32": 2.0**-22, "e8m0": 2.0**-22, "e4m3": 2.0**-3}[scheme.scale_dtype]
            worst = step * (0.5 if scheme.symmetric else 1.0) * (1 + 1e-3) + slack * span
            assert ((value - before).abs().amax(-1) <= worst).all()


def test_effective_bits_and_size_count_what_is_stored(layer: nn.Module, scheme: QuantizationScheme) -> None:
    variant = quantize(layer, scheme)
    layouts = filter_layouts(layer)
    stored = total = 0.0
    for item in variant.layers:
        channels, elements = layouts[item.parameter].rows(variant.point[item.parameter]).shape
        size = scheme.group_size or 1
        blocks = {"tensor": 1, "channel": channels, "group": channels * -(-elements // size),
                  "block": -(-channels // size) * -(-elements // size)}[scheme.granularity]  # fmt: skip
        assert blocks == count_blocks(channels, elements, scheme)
        scale = {"float32": 32, "float16": 16, "e8m0": 8, "e4m3": 8}[scheme.scale_dtype]
        zero_point = 0 if scheme.symmetric else scheme.bits
        second_level = 32 if scheme.format == "nvfp4" else 0
        stored += scheme.bits * item.parameters + blocks * (scale + zero_point) + second_level
        total += item.parameters
    assert variant.effective_bits == pytest.approx(stored / total)
    rest = sum(p.nbytes for p in layer.parameters()) - 4 * total
    assert variant.size_bytes == pytest.approx(rest + stored / 8, abs=1)


def test_observed_anew_at_the_point_it_gives_the_same_variant(layer: nn.Module, scheme: QuantizationScheme) -> None:
    variant = quantize(layer, scheme)
    assert variant.requantize is not None
    again = variant.requantize({name: parameter.detach() for name, parameter in layer.named_parameters()})
    assert all(torch.equal(again[name], variant.point[name]) for name in again)
    some = [variant.layers[0].parameter]
    subset = variant.requantize({name: variant.point[name] for name in some})
    assert list(subset) == some


def test_encoding_is_a_projection(scheme: QuantizationScheme) -> None:
    quantizer = QUANTIZERS[scheme.format]
    rows = torch.randn(7, 301)
    whole = tensor_span(rows, scheme)
    for block in split_blocks(rows, scheme):
        qparams = block_qparams(block, scheme, whole)
        codes = quantizer.encode(block, qparams, scheme)
        values = quantizer.decode(codes, qparams, scheme)
        assert torch.equal(quantizer.encode(values, qparams, scheme), codes)
        edges = quantizer.edges(qparams, scheme)
        assert ((values >= edges.low) & (values <= edges.high)).all()


def test_a_grid_rounds_as_the_round_trip_does(scheme: QuantizationScheme) -> None:
    rows = torch.randn(9, 70)
    grid = observe_grid(rows, scheme)
    assert torch.equal(grid.nearest(rows), round_trip(rows, scheme))
    some = torch.tensor([3, 40, 69])
    assert torch.equal(grid.nearest(rows[:, some], some), round_trip(rows, scheme)[:, some])


def test_quantizing_twice_changes_no_more_than_a_rounding(scheme: QuantizationScheme) -> None:
    once = fake_quantize(torch.randn(7, 301), scheme)
    twice = fake_quantize(once, scheme)
    narrow = scheme.format == "integer" and scheme.symmetric and not scheme.full_range
    if narrow and scheme.scale_dtype != "e8m0":
        assert (twice - once).abs().max() <= 2 * torch.finfo(torch.float32).eps * once.abs().max()
    else:  # its amax lies off the last code, so a second range is another one, by half a step at most
        assert (twice - once).abs().max() <= step_of(scheme, 2 * once.abs().max())


def test_zero_stays_zero(scheme: QuantizationScheme) -> None:
    weight = torch.randn(6, 40) + 0.3
    weight[:, ::3] = 0
    assert torch.all(fake_quantize(weight, scheme)[:, ::3] == 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_of_one_sign(scheme: QuantizationScheme, sign: int) -> None:
    weight = sign * (torch.rand(4, 64) + 0.5)
    rounded = fake_quantize(weight, scheme)
    assert torch.all(rounded * sign >= 0)
    assert (rounded - weight).norm() < 0.55 * weight.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_extreme_channels_stay_finite(scheme: QuantizationScheme, dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    weight = torch.randn(6, 70).to(dtype)
    weight[0] = 0
    weight[1] = 0
    weight[1, 3] = limits.max
    weight[2] = limits.smallest_normal / 8  # a denormal
    weight[3, 5] = 40.0
    weight[4] = limits.max
    rounded = fake_quantize(weight, scheme)
    assert rounded.dtype == dtype
    assert torch.isfinite(rounded).all()
    assert torch.all(rounded[0] == 0)
    if scheme.granularity != "tensor":
        assert (rounded[5] - weight[5]).abs().max() <= weight[5].abs().max()


def test_short_dtypes_are_computed_in_float32_and_rounded_once(scheme: QuantizationScheme) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        weight = torch.randn(5, 64).to(dtype)
        assert torch.equal(fake_quantize(weight, scheme), round_trip(weight.float(), scheme).to(dtype))


def test_the_answer_can_be_written_in_place(layer: nn.Module) -> None:
    for name in ("int4", "int4-tensor", "int4-g8-asym", "fp8-e4m3-b4"):
        for key, layout in filter_layouts(layer).items():
            weight = layer.get_parameter(key).detach()
            expected = round_trip(weight, parse_scheme(name), layout)
            into = torch.empty_like(weight)
            assert round_trip(weight, parse_scheme(name), layout, out=into) is into
            assert torch.equal(into, expected)
            itself = weight.clone()
            assert torch.equal(round_trip(itself, parse_scheme(name), layout, out=itself), expected)


def test_the_derivative_is_the_identity_in_every_mode(scheme: QuantizationScheme) -> None:
    torch.manual_seed(1)
    weight, tangent = torch.randn(2, 3, 10, dtype=torch.float64)
    q = round_trip(weight, scheme)

    def cubed(w: torch.Tensor) -> torch.Tensor:
        return fake_quantize(w, scheme).pow(3).sum()

    leaf = weight.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cubed(leaf), leaf, create_graph=True)
    torch.testing.assert_close(gradient, 3 * q**2)
    (product,) = torch.autograd.grad((gradient * tangent).sum(), leaf)
    torch.testing.assert_close(product, 6 * q * tangent)
    _, forward = torch.func.jvp(cubed, (weight,), (tangent,))
    torch.testing.assert_close(forward, (3 * q**2 * tangent).sum())
    _, over = torch.func.jvp(torch.func.grad(cubed), (weight,), (tangent,))
    torch.testing.assert_close(over, 6 * q * tangent)
    stack = torch.stack([weight, 2 * weight + 1])
    torch.testing.assert_close(
        torch.func.vmap(lambda w: fake_quantize(w, scheme))(stack),
        torch.stack([fake_quantize(w, scheme) for w in stack]),
    )
    torch.testing.assert_close(
        torch.func.vmap(torch.func.grad(cubed))(stack), torch.stack([3 * round_trip(w, scheme) ** 2 for w in stack])
    )


def test_blocks_come_back_in_order(scheme: QuantizationScheme) -> None:
    rows = torch.arange(5 * 301.0).reshape(5, 301)
    assert torch.equal(join_blocks(split_blocks(rows, scheme), 5), rows)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_weights_are_refused_by_name(scheme: QuantizationScheme, value: float) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight[0, 0] = value
    with pytest.raises(CheckpointError, match=r"1\.weight") as refused:
        quantize(model, scheme)
    assert refused.value.code == "non_finite_weights"
    assert refused.value.details["tensors"] == ["1.weight"]
    with pytest.raises(NumericalError) as refused_tensor:
        fake_quantize(model[1].weight, scheme)
    assert refused_tensor.value.code == "non_finite_weights"


def test_sixteen_bits_are_all_but_float() -> None:
    weight = torch.randn(9, 100)
    assert (fake_quantize(weight, "int16") - weight).abs().max() <= weight.abs().max() / 32767
