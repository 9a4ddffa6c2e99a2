"""What every scheme owes, on every kind of layer. Runs over the catalog: a new scheme is tested the day it lands."""

import copy

import pytest
import torch
from torch import nn

from quant_lens_engine.errors import CheckpointError, NumericalError
from quant_lens_engine.filters import filter_layouts
from quant_lens_engine.quantization import available_schemes, fake_quantize, quantize
from quant_lens_engine.quantization.blocks import count_blocks, join_blocks, round_trip, split_blocks
from quant_lens_engine.quantization.quantizers import QUANTIZERS
from quant_lens_engine.schema import QuantizationScheme, parse_scheme

SCHEMES = [facts.name for facts in available_schemes()]
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


def levels(scheme: QuantizationScheme) -> int:
    return 2**scheme.bits - (1 if scheme.symmetric and not scheme.full_range else 0)


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


def test_each_channel_uses_no_more_levels_than_it_has(layer: nn.Module, scheme: QuantizationScheme) -> None:
    variant, layouts = quantize(layer, scheme), filter_layouts(layer)
    for item in variant.layers:
        weight = dict(layer.named_parameters())[item.parameter]
        rows = layouts[item.parameter].rows(variant.point[item.parameter])
        source = layouts[item.parameter].rows(weight)
        blocks = zip(split_blocks(rows, scheme), split_blocks(source, scheme), strict=True)
        seen = 0
        for values, original in blocks:
            for value, before in zip(values.flatten(0, -2), original.flatten(0, -2), strict=True):
                seen += 1
                assert len(value.unique()) <= levels(scheme)
                span = before.abs().max() if scheme.symmetric else before.clamp(min=0).max() - before.clamp(max=0).min()
                steps = (levels(scheme) - 1) / (2 if scheme.symmetric else 1)
                # half a step, the rounding of the scale itself (fp16 in groups), and one step where a zero point clips
                slack = {"float16": 2.0**-10, "float32": 2.0**-22}[scheme.scale_dtype] * span
                worst = (0.5 if scheme.symmetric else 1.0) * span / steps
                assert (value - before).abs().max() <= worst * (1 + 1e-3) + slack
        assert seen == count_blocks(*rows.shape, scheme)


def test_effective_bits_and_size_count_what_is_stored(layer: nn.Module, scheme: QuantizationScheme) -> None:
    variant = quantize(layer, scheme)
    layouts = filter_layouts(layer)
    stored = total = 0.0
    for item in variant.layers:
        channels, elements = layouts[item.parameter].rows(variant.point[item.parameter]).shape
        groups = -(-elements // scheme.group_size) if scheme.group_size else 1
        blocks = 1 if scheme.granularity == "tensor" else channels * groups
        scale = 16 if scheme.granularity == "group" else 32
        zero_point = 0 if scheme.symmetric else scheme.bits
        stored += scheme.bits * item.parameters + blocks * (scale + zero_point)
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
    for block in split_blocks(torch.randn(7, 301, dtype=torch.float64), scheme):
        qparams = quantizer.observe(block, scheme)
        codes = quantizer.encode(block, qparams, scheme)
        assert torch.equal(codes, codes.round())
        assert torch.equal(quantizer.encode(quantizer.decode(codes, qparams), qparams, scheme), codes)


def test_quantizing_twice_changes_no_more_than_a_rounding(scheme: QuantizationScheme) -> None:
    once = fake_quantize(torch.randn(7, 301), scheme)
    twice = fake_quantize(once, scheme)
    if scheme.full_range:  # its amax lies half a step beyond the last code, so a second min-max shrinks the grid
        assert twice.abs().max() <= once.abs().max()
    else:
        assert (twice - once).abs().max() <= 2 * torch.finfo(torch.float32).eps * once.abs().max()


def test_zero_stays_zero(scheme: QuantizationScheme) -> None:
    weight = torch.randn(6, 40) + 0.3
    weight[:, ::3] = 0
    assert torch.all(fake_quantize(weight, scheme)[:, ::3] == 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_of_one_sign(scheme: QuantizationScheme, sign: int) -> None:
    weight = sign * (torch.rand(4, 64) + 0.5)
    rounded = fake_quantize(weight, scheme)
    assert torch.all(rounded * sign >= 0)
    assert (rounded - weight).norm() < 0.5 * weight.norm()


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


def test_values_are_rounded_once_to_a_short_dtype(scheme: QuantizationScheme) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        weight = torch.randn(5, 64).to(dtype)
        assert torch.equal(fake_quantize(weight, scheme), round_trip(weight.double(), scheme).to(dtype))


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
