"""FP8, MX and NVFP4, value by value: against the standards' tables, torch's float8 dtypes and torchao's tensors."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from quant_lens_engine.quantization import fake_quantize
from quant_lens_engine.quantizers._minifloat import E2M1, E2M3, E3M2, E4M3, E5M2, Minifloat

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

# OCP Microscaling v1.0, tables 3 to 5: every value from zero up
E2M1_VALUES = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
E2M3_VALUES = [
    0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875,
    1, 1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875,
    2, 2.25, 2.5, 2.75, 3, 3.25, 3.5, 3.75,
    4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5,
]  # fmt: skip
E3M2_VALUES = [
    0, 0.0625, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.4375,
    0.5, 0.625, 0.75, 0.875, 1, 1.25, 1.5, 1.75,
    2, 2.5, 3, 3.5, 4, 5, 6, 7,
    8, 10, 12, 14, 16, 20, 24, 28,
]  # fmt: skip
TABLES = {"e2m1": (E2M1, E2M1_VALUES), "e2m3": (E2M3, E2M3_VALUES), "e3m2": (E3M2, E3M2_VALUES)}
FLOAT8 = {"e4m3": (E4M3, torch.float8_e4m3fn), "e5m2": (E5M2, torch.float8_e5m2)}


def awkward(rows: int, columns: int, seed: int = 0) -> Tensor:
    """Random rows of every size, and among them: zeros, denormals, ties, values that saturate, one outlier."""
    generator = torch.Generator().manual_seed(seed)
    exponents = torch.randint(-30, 30, (rows, 1), generator=generator)
    x = torch.randn(rows, columns, generator=generator) * torch.exp2(exponents.float())
    x[0] = 0
    x[1] = torch.arange(columns) * 2.0**-149  # denormals
    x[2] = torch.arange(columns) / 4 - 4  # ties of every element
    x[3] = torch.where(torch.arange(columns) % 2 == 0, 7.75, -7.75)  # beyond the largest, below the next power of two
    x[4, 5] = 1e6
    x[5] = -x[5].abs()
    x[6] = -0.0
    return x


@pytest.mark.parametrize("name", TABLES)
def test_small_elements_are_those_of_the_standard(name: str) -> None:
    element, values = TABLES[name]
    assert len(values) == 2 ** (1 + sum(int(digit) for digit in name if digit.isdigit()) - 1)
    assert element.nearest(torch.tensor(values)).tolist() == values
    assert element.largest == values[-1]
    for code, (low, high) in enumerate(pairwise(values)):
        tie = (low + high) / 2
        even = low if code % 2 == 0 else high
        assert element.nearest(torch.tensor([tie, -tie])).tolist() == [even, -even]
        below, above = math.nextafter(tie, 0), math.nextafter(tie, math.inf)
        assert element.nearest(torch.tensor([below, above], dtype=torch.float64)).tolist() == [low, high]
    assert element.nearest(torch.tensor([1e30, -1e30, element.edge])).tolist() == [values[-1], -values[-1], values[-1]]


@pytest.mark.parametrize("name", FLOAT8)
def test_every_float8_bit_pattern(name: str) -> None:
    element, dtype = FLOAT8[name]
    every = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    finite = every[every.isfinite()]
    assert len(finite) == {"e4m3": 254, "e5m2": 248}[name]
    assert torch.equal(element.nearest(finite), finite)
    assert finite.max() == element.largest == {"e4m3": 448, "e5m2": 57344}[name]
    assert finite[finite > 0].min() == {"e4m3": 2.0**-9, "e5m2": 2.0**-16}[name]
    assert 2.0 ** (1 - element.bias) == {"e4m3": 2.0**-6, "e5m2": 2.0**-14}[name]


@pytest.mark.parametrize("name", FLOAT8)
def test_float8_rounds_as_torch_does(name: str) -> None:
    element, dtype = FLOAT8[name]
    positive = torch.arange(128, dtype=torch.uint8).view(dtype).float()
    positive = positive[positive.isfinite()]
    ties = (positive[1:] + positive[:-1]) / 2
    near = torch.cat([ties, ties * (1 + 2.0**-20), ties * (1 - 2.0**-20), positive])
    x = torch.cat([near, -near, awkward(64, 64).flatten().clamp(-element.largest, element.largest)])
    assert torch.equal(element.nearest(x), x.to(dtype).float())


@pytest.mark.parametrize("scheme", ["fp8-e4m3", "fp8-e5m2", "fp8-e4m3-tensor"])
def test_scaled_float8_by_torch_alone(scheme: str) -> None:
    x = awkward(64, 64)
    dtype = FLOAT8[scheme[4:8]][1]
    largest = torch.finfo(dtype).max
    amax = x.abs().amax() if "tensor" in scheme else x.abs().amax(1, keepdim=True)
    scale = (amax / largest).clamp(min=2.0**-126)  # a scale is a normal number
    expected = (x / scale).clamp(-largest, largest).to(dtype).float() * scale
    assert torch.equal(fake_quantize(x, scheme), expected)


MX = {
    "mxfp4": "float4_e2m1fn_x2", "mxfp6-e2m3": "fp6_e2m3", "mxfp6-e3m2": "fp6_e3m2",
    "mxfp8-e4m3": "float8_e4m3fn", "mxfp8-e5m2": "float8_e5m2",
}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scheme", MX)
def test_microscaling_is_torchaos_under_the_floor_rule(scheme: str, seed: int) -> None:
    mx = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor", reason="torchao is not installed")
    mode = pytest.importorskip("torchao.prototype.mx_formats.config").ScaleCalculationMode
    element = MX[scheme] if "fp6" in MX[scheme] else getattr(torch, MX[scheme])
    x = awkward(64, 96, seed)
    x[1] = 0  # denormal blocks: see below
    theirs = mx.MXTensor.to_mx(x, element, scaling_mode=mode.FLOOR).dequantize()
    assert torch.equal(fake_quantize(x, scheme), theirs)
    half = x.clamp(-1e30, 1e30).bfloat16()
    assert torch.equal(
        fake_quantize(half, scheme), mx.MXTensor.to_mx(half, element, scaling_mode=mode.FLOOR).dequantize()
    )


@pytest.mark.parametrize("scheme", MX)
def test_torchao_divides_by_one_scale_and_multiplies_by_another_where_blocks_are_denormal(scheme: str) -> None:
    """Both divide by float32's smallest normal number where e8m0 holds 2^-127; torchao stores that one and multiplies
    by it, and so halves what it gets. Ours is near the value."""
    mx = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor", reason="torchao is not installed")
    mode = pytest.importorskip("torchao.prototype.mx_formats.config").ScaleCalculationMode
    element = MX[scheme] if "fp6" in MX[scheme] else getattr(torch, MX[scheme])
    x = torch.full((1, 32), 2.0**-127)
    theirs = mx.MXTensor.to_mx(x, element, scaling_mode=mode.FLOOR).dequantize()
    ours = fake_quantize(x, scheme)
    assert torch.equal(ours, x)
    assert torch.equal(theirs, x / 2)


@pytest.mark.parametrize("seed", range(3))
def test_nvfp4_is_torchaos(seed: int) -> None:
    nvfp4 = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor", reason="torchao is not installed")
    for x in (awkward(64, 96, seed), torch.randn(32, 64), torch.randn(32, 64).bfloat16(), torch.randn(8, 32) * 1e-20):
        scale = nvfp4.per_tensor_amax_to_scale(x.abs().max())
        theirs = nvfp4.NVFP4Tensor.to_nvfp4(x, per_tensor_scale=scale).dequantize()
        assert torch.equal(fake_quantize(x, "nvfp4"), theirs)


def test_a_tensor_of_zeros_is_nan_in_torchaos_nvfp4_and_zero_here() -> None:
    nvfp4 = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor", reason="torchao is not installed")
    zeros = torch.zeros(4, 32)
    theirs = nvfp4.NVFP4Tensor.to_nvfp4(zeros, per_tensor_scale=nvfp4.per_tensor_amax_to_scale(zeros.abs().max()))
    assert not torch.equal(theirs.dequantize(), zeros)
    assert torch.equal(fake_quantize(zeros, "nvfp4"), zeros)
    tiny = torch.randn(4, 32) * 1e-37
    assert bool(fake_quantize(tiny, "nvfp4").isfinite().all())


def test_e8m0_scales_are_powers_of_two_that_torch_can_store() -> None:
    x = awkward(64, 96)
    x[1] = 0
    for scheme, largest in (("mxfp4", E2M1), ("mxfp8-e4m3", E4M3)):
        rounded = fake_quantize(x, scheme).reshape(64, 3, 32)
        exponent = torch.floor(torch.log2(x.reshape(64, 3, 32).abs().amax(-1).double())) - largest.top_power
        scale = torch.exp2(exponent.clamp(-126, 127)).float()
        stored = scale.to(torch.float8_e8m0fnu).float()
        assert torch.equal(stored, scale)
        elements = rounded / scale[..., None]
        assert torch.equal(largest.nearest(elements), elements)


def test_minifloats_of_other_widths_by_enumeration() -> None:
    """The arithmetic is general: every value of a 7-bit e3m3 is built by hand, and nothing else is ever answered."""
    element = Minifloat("e3m3", 3, 3, 30.0)
    subnormal = [fraction / 8 * 2.0**-2 for fraction in range(8)]
    normal = [(1 + fraction / 8) * 2.0 ** (exponent - 3) for exponent in range(1, 8) for fraction in range(8)]
    values = [*subnormal, *normal]
    assert element.nearest(torch.tensor(values)).tolist() == values
    x = torch.linspace(-40, 40, 4001)
    nearest = element.nearest(x).abs()
    assert set(nearest.tolist()) <= set(values)
    candidates = torch.tensor(values)
    best = (x.abs()[:, None].clamp(max=30) - candidates).abs().amin(1)
    assert torch.equal((nearest - x.abs().clamp(max=30)).abs(), best)
