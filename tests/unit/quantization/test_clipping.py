"""MSE-optimal clipping against brute force over the same candidates."""

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.quantization import fake_quantize, quantize
from quant_lens_engine.quantization.algorithms.clipping import ClippedGrid, ClippingOptions
from quant_lens_engine.quantization.blocks import block_qparams, round_trip, split_blocks, tensor_span
from quant_lens_engine.quantization.grid import observe_grid
from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema import parse_scheme

SCHEMES = [
    "int2",
    "int3-asym",
    "int4-g8",
    "int4-tensor",
    "nf4-g16",
    "mxfp4",
    "nvfp4",
    "fp8-e4m3",
    "int3-b4",
    "int4-full",
]


def heavy_tailed(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    normal = torch.randn(*shape, generator=source, dtype=torch.float64)
    return normal * torch.randn(*shape, generator=source, dtype=torch.float64).square()


def clipped(weight: Tensor, scheme: str, options: str = "") -> Tensor:
    model = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    with torch.no_grad():
        model.weight.copy_(weight)
    return quantize(model, f"{scheme}+clip{options}").point["weight"]


def errors(weight: Tensor, rounded: Tensor, scheme: str) -> Tensor:
    """The squared error of everything that shares a scale."""
    fmt = parse_scheme(scheme)
    squared = (weight - rounded).square()
    if fmt.granularity == "tensor":
        return squared.sum().reshape(1)
    if fmt.granularity == "block":
        size = fmt.group_size
        return torch.stack([tile.sum() for band in squared.split(size) for tile in band.split(size, 1)])
    return torch.cat([block.sum(-1).flatten() for block in split_blocks(squared, fmt)])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scale_has_the_best_of_its_candidates(scheme: str) -> None:
    weight = heavy_tailed(8, 36)
    found = errors(weight, clipped(weight, scheme, ":steps=20:smallest=0.3"), scheme)
    candidates = [1 - 0.7 * step / 20 for step in range(21)]
    tried = torch.stack(
        [errors(weight, round_trip(weight, parse_scheme(scheme), clip=part), scheme) for part in candidates]
    )
    torch.testing.assert_close(found, tried.amin(0), rtol=1e-9, atol=1e-15)
    if scheme != "mxfp4":  # where halving a power of two pays too seldom
        assert (tried.argmin(0) > 0).any(), "the case has something to clip"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_loses_more_than_by_the_whole_range(scheme: str) -> None:
    weight = heavy_tailed(8, 36, seed=1)
    found, whole = (
        errors(weight, rounded, scheme) for rounded in (clipped(weight, scheme), fake_quantize(weight, scheme))
    )
    assert (found <= whole * (1 + 1e-12)).all()
    if scheme not in ("mxfp4", "nvfp4"):
        assert found.sum() < 0.97 * whole.sum()


def test_what_is_tried_is_a_part_of_the_range() -> None:
    weight = heavy_tailed(3, 30)
    halved = round_trip(weight, parse_scheme("int4"), clip=0.5)
    scale = 0.5 * weight.abs().amax(1, keepdim=True) / 7
    torch.testing.assert_close(halved, (weight / scale).round().clamp(-7, 7) * scale)


def test_blocks_of_nvfp4_stay_under_one_tensor_scale() -> None:
    """Whatever is clipped, every block's scale is an e4m3 number times amax / 2688."""
    weight = heavy_tailed(4, 64)
    grid = ClippedGrid(ClippingOptions(steps=20))(weight, parse_scheme("nvfp4"))
    stored = grid.qparams.scale / (weight.abs().max().float().double() / 2688)
    torch.testing.assert_close(stored, stored.float().to(torch.float8_e4m3fn).double(), rtol=1e-6, atol=0)
    assert not torch.equal(grid.qparams.scale, observe_grid(weight, parse_scheme("nvfp4")).qparams.scale)


def test_uniform_weights_are_hardly_clipped() -> None:
    weight = torch.linspace(-1, 1, 256, dtype=torch.float64).reshape(1, -1)
    rounded = clipped(weight, "int4")
    assert rounded.max() > 0.93


def test_the_clipped_grid_is_observed_anew_for_another_weight() -> None:
    weight = heavy_tailed(4, 24).float()
    model = nn.Linear(24, 4, bias=False)
    with torch.no_grad():
        model.weight.copy_(weight)
    variant = quantize(model, "int3+clip")
    twice = variant.requantize({"weight": 2 * weight})["weight"]
    torch.testing.assert_close(twice, 2 * variant.point["weight"])
    assert not any("deployed landscape" in note for note in variant.notes)


def test_gptq_and_adaround_choose_their_codes_on_the_clipped_grid() -> None:
    from quant_lens_engine.objective import Objective

    torch.manual_seed(0)
    weight = heavy_tailed(4, 24)
    model = nn.Linear(24, 4, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(weight)
    objective = Objective(
        model, [(heavy_tailed(60, 24, seed=2), torch.zeros(60, 4))], task="regression", dtype="float64"
    )
    expected = ClippedGrid(ClippingOptions())(weight, parse_scheme("int3"))
    for algorithm in ("gptq", "adaround:steps=20"):
        variant = quantize(model, f"int3+clip+{algorithm}", objective)
        torch.testing.assert_close(variant.requantize.roundings["weight"].grid.qparams.scale, expected.qparams.scale)
        torch.testing.assert_close(expected.nearest(variant.point["weight"]), variant.point["weight"])


def test_a_second_scale_is_that_of_the_whole_tensor() -> None:
    fmt, weight = parse_scheme("nvfp4"), heavy_tailed(2, 32)
    whole = tensor_span(weight, fmt, 0.5)
    assert whole is not None
    assert float(whole.amax) == float(weight.abs().max())
    block = split_blocks(weight, fmt)[0]
    qparams = block_qparams(block, fmt, whole, 0.5)
    edges = QUANTIZERS["nvfp4"].edges(qparams, fmt)
    assert (edges.high < 0.65 * block.abs().amax(-1, keepdim=True) + 1e-3).all()
