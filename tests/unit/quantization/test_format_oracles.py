"""The floating-point, block and codebook formats against published numbers, tables of their elements, and torch's
own fp8."""

import itertools
import math

import pytest
import torch

from quant_lens_engine.quantization import available_schemes, fake_quantize, quantize
from quant_lens_engine.quantization.blocks import stored_bits
from quant_lens_engine.quantizers import QUANTIZERS, QParams
from quant_lens_engine.quantizers._minifloat import E2M1, E2M3, E3M2, E4M3, E5M2, Minifloat
from quant_lens_engine.schema import parse_scheme
from quant_lens_engine.schema.scheme_description import describe_scheme


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sqnr_db(x: torch.Tensor, rounded: torch.Tensor) -> float:
    return 20 * math.log10(float(x.double().norm() / (x.double() - rounded.double()).norm()))


@pytest.fixture(scope="module")
def normal() -> torch.Tensor:
    return seeded(256, 2**12)


@pytest.fixture(scope="module")
def laplace() -> torch.Tensor:
    uniform = torch.rand(128, 2**12, generator=torch.Generator().manual_seed(1)) - 0.5
    return -uniform.sign() * torch.log1p(-2 * uniform.abs())


@pytest.mark.parametrize(
    ("scheme", "oracle"),
    [
        ("nf4-g64", 20.73),
        ("nvfp4", 20.44),
        ("mxfp4", 18.79),
        ("fp8-e4m3-tensor", 31.54),
        ("fp8-e5m2-tensor", 25.56),
    ],
)
def test_normal_weights(normal: torch.Tensor, scheme: str, oracle: float) -> None:
    assert sqnr_db(normal, fake_quantize(normal, scheme)) == pytest.approx(oracle, abs=0.1)


LLOYD_MAX = {
    4.40: (0.7979,),
    9.30: (0.4528, 1.5104),
    14.62: (0.2451, 0.7560, 1.3440, 2.1520),
    20.22: (0.1284, 0.3881, 0.6568, 0.9424, 1.2562, 1.6181, 2.0691, 2.7326),
}  # Max 1960
UNIFORM_STEPS = {9.25: (2, 0.9957), 14.27: (3, 0.5860), 19.38: (4, 0.3352), 40.57: (8, 0.0308)}


def rounded_to_levels(x: torch.Tensor, positive: tuple[float, ...]) -> torch.Tensor:
    levels = [*(-level for level in reversed(positive)), *positive]
    scheme = parse_scheme(f"codebook[{':'.join(map(str, levels))}]")
    quantizer, one = QUANTIZERS["codebook"], QParams(torch.ones(1, 1))
    return quantizer.decode(quantizer.encode(x, one, scheme), one, scheme)


@pytest.mark.parametrize("oracle", LLOYD_MAX)
def test_the_levels_of_lloyd_and_max(normal: torch.Tensor, oracle: float) -> None:
    assert sqnr_db(normal, rounded_to_levels(normal, LLOYD_MAX[oracle])) == pytest.approx(oracle, abs=0.02)


@pytest.mark.parametrize("oracle", UNIFORM_STEPS)
def test_the_best_uniform_levels(normal: torch.Tensor, oracle: float) -> None:
    bits, step = UNIFORM_STEPS[oracle]
    positive = tuple(round((number + 0.5) * step, 6) for number in range(2 ** (bits - 1)))
    assert sqnr_db(normal, rounded_to_levels(normal, positive)) == pytest.approx(oracle, abs=0.03)


@pytest.mark.parametrize("source", ["normal", "laplace"])
@pytest.mark.parametrize(
    "schemes",
    [
        [f"int{bits}" for bits in range(2, 9)],
        [f"int{bits}-g64-asym" for bits in range(2, 9)],
        ["mxfp4", "mxfp6-e3m2", "mxfp8-e4m3"],
        ["mxfp4", "mxfp6-e2m3", "mxint8"],
        ["int4-tensor", "int4", "int4-g128", "int4-g64", "int4-g32", "int4-g16"],
        ["int3-asym", "int3-g128-asym", "int3-g32-asym"],
        ["nf4", "nf4-g128", "nf4-g64", "nf4-g32"],
        ["mxfp4", "nvfp4"],
    ],
    ids=lambda schemes: f"{schemes[0]}..{schemes[-1]}",
)
def test_error_falls_with_bits_and_with_smaller_groups(
    source: str, schemes: list[str], request: pytest.FixtureRequest
) -> None:
    x = request.getfixturevalue(source)[:32]
    errors = [float((x - fake_quantize(x, scheme)).square().mean()) for scheme in schemes]
    assert all(fewer > 1.02 * more for fewer, more in itertools.pairwise(errors))


# ---- elements, from the bits that store them


def stored_values(exponent_bits: int, mantissa_bits: int, bias: int, codes: int) -> torch.Tensor:
    """Every magnitude of a format in the order of its codes, so that an even code has an even mantissa."""
    values = []
    for code in range(codes):
        exponent, mantissa = divmod(code, 2**mantissa_bits)
        assert exponent < 2**exponent_bits
        normal = 1 if exponent else 0
        values.append((normal + mantissa / 2**mantissa_bits) * 2.0 ** (max(exponent, 1) - bias))
    return torch.tensor(values, dtype=torch.float64)


ELEMENTS = {
    E2M1: stored_values(2, 1, 1, 8),
    E2M3: stored_values(2, 3, 1, 32),
    E3M2: stored_values(3, 2, 3, 32),
    E4M3: stored_values(4, 3, 7, 127),  # the last code is NaN
    E5M2: stored_values(5, 2, 15, 124),  # the last four are infinity and NaN
}


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: element.name)
def test_the_nearest_element_is_the_nearest_in_its_table(element: Minifloat) -> None:
    table = ELEMENTS[element]
    middles = (table[1:] + table[:-1]) / 2
    tries = torch.cat([table, middles, middles * (1 + 2**-20), middles * (1 - 2**-20), table[-1:] * 10])
    distance = (tries[:, None] - table).abs()
    nearest = distance.argmin(1)  # the lower of two
    tie = (nearest + 1 < len(table)) & (
        distance.gather(1, (nearest + 1).clamp(max=len(table) - 1)[:, None])[:, 0]
        == distance.gather(1, nearest[:, None])[:, 0]
    )
    expected = table[nearest + (tie & (nearest % 2 == 1)).long()]
    assert tie.sum() == len(middles)
    assert torch.equal(element.nearest(tries), expected)
    assert torch.equal(element.nearest(-tries), -expected)
    assert float(table[-1]) == element.largest
    assert 2.0**element.top_power <= float(table[-1]) < 2.0 ** (element.top_power + 1)


@pytest.mark.parametrize(("element", "dtype"), [(E4M3, torch.float8_e4m3fn), (E5M2, torch.float8_e5m2)])
def test_fp8_elements_are_torchs(element: Minifloat, dtype: torch.dtype) -> None:
    exponents = torch.linspace(-26, 20, 100_000)
    x = (seeded(100_000) * 2**exponents).clamp(-element.largest, element.largest)
    assert torch.equal(element.nearest(x), x.to(dtype).float())


def nearest_in(values: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """By magnitude, ties to even codes; saturating."""
    table = table.to(values.dtype)
    place = torch.bucketize(values.abs(), (table[1:] + table[:-1]) / 2)
    tied = values.abs() == ((table[1:] + table[:-1]) / 2)[place.clamp(max=len(table) - 2)]
    return table[place + (tied & (place % 2 == 1)).long()] * values.sign()


@pytest.mark.parametrize("scheme", ["mxfp4", "mxfp6-e2m3", "mxfp6-e3m2", "mxfp8-e4m3", "mxfp8-e5m2"])
def test_mx_blocks_have_the_floor_scale_of_the_standard(scheme: str) -> None:
    element = {"mxfp4": E2M1, "mxfp6-e2m3": E2M3, "mxfp6-e3m2": E3M2, "mxfp8-e4m3": E4M3, "mxfp8-e5m2": E5M2}[scheme]
    emax = {"mxfp4": 2, "mxfp6-e2m3": 2, "mxfp6-e3m2": 4, "mxfp8-e4m3": 8, "mxfp8-e5m2": 15}[scheme]
    x = seeded(16, 320) * 2.0 ** torch.arange(-8, 8)[:, None]
    blocks = x.reshape(16, 10, 32).double()
    scale = torch.exp2(torch.floor(torch.log2(blocks.abs().amax(-1, keepdim=True))) - emax)
    expected = nearest_in(blocks / scale, ELEMENTS[element]) * scale
    assert torch.equal(fake_quantize(x, scheme), expected.reshape(16, 320).float())


def test_mxint8_is_a_multiple_of_two_to_the_minus_six() -> None:
    x = seeded(8, 64)
    blocks = x.reshape(8, 2, 32).double()
    scale = torch.exp2(torch.floor(torch.log2(blocks.abs().amax(-1, keepdim=True)))) / 64
    expected = (blocks / scale).round().clamp(-127, 127) * scale
    assert torch.equal(fake_quantize(x, "mxint8"), expected.reshape(8, 64).float())


def test_nvfp4_has_fp8_block_scales_under_one_float_scale() -> None:
    x = seeded(16, 96) * 2.0 ** torch.arange(-8, 8)[:, None]
    tensor_scale = x.abs().max() / (448 * 6)
    blocks = x.reshape(16, 6, 16)
    block_scale = (blocks.abs().amax(-1, keepdim=True) / 6 / tensor_scale).clamp(2.0**-6, 448)
    block_scale = block_scale.to(torch.float8_e4m3fn).float()
    elements = nearest_in(blocks * (tensor_scale.reciprocal() / block_scale), ELEMENTS[E2M1])
    expected = elements * (block_scale * tensor_scale)
    assert torch.equal(fake_quantize(x, "nvfp4"), expected.reshape(16, 96))


def test_fp8_has_its_largest_magnitude_at_the_largest_element() -> None:
    x = seeded(8, 50)
    for name, largest, dtype in (("e4m3", 448, torch.float8_e4m3fn), ("e5m2", 57344, torch.float8_e5m2)):
        scale = x.abs().amax(1, keepdim=True) / largest
        assert torch.equal(fake_quantize(x, f"fp8-{name}"), (x / scale).to(dtype).float() * scale)
        scale = x.abs().max() / largest
        assert torch.equal(fake_quantize(x, f"fp8-{name}-tensor"), (x / scale).to(dtype).float() * scale)


def test_a_tile_shares_one_scale_and_the_last_may_be_cut_off() -> None:
    x = seeded(5, 7)
    expected = torch.empty_like(x)
    for top in range(0, 5, 3):
        for left in range(0, 7, 3):
            tile = x[top : top + 3, left : left + 3]
            scale = tile.abs().max() / 448
            expected[top : top + 3, left : left + 3] = (tile / scale).to(torch.float8_e4m3fn).float() * scale
    assert torch.equal(fake_quantize(x, "fp8-e4m3-b3"), expected)


def test_nf4_holds_the_quantiles_of_qlora() -> None:
    """Dettmers et al. 2023, appendix E: eight quantiles below zero, nine above, zero once, scaled to [−1, 1]."""
    offset = 0.9677083
    above = torch.special.ndtri(torch.linspace(offset, 0.5, 9)[:-1])
    below = -torch.special.ndtri(torch.linspace(offset, 0.5, 8)[:-1])
    levels = torch.cat([above, below, torch.zeros(1)]).sort().values / above.max()
    codes = torch.tensor(parse_scheme("nf4-g64").levels)
    torch.testing.assert_close(codes, levels, atol=2e-6, rtol=0)


UNEVEN = tuple((seeded(256, seed=5).sort().values + 0.01 * torch.arange(256)).tolist())


@pytest.mark.parametrize("levels", [(-1.0, 1.0), (-0.1, 0.0, 0.1, 1.0), UNEVEN, (-3.0, -2.999, 0.0, 50.0)], ids=len)
def test_a_codebook_goes_to_its_nearest_level(levels: tuple[float, ...]) -> None:
    scheme = parse_scheme({"format": "codebook", "bits": max(1, (len(levels) - 1).bit_length()), "levels": levels})
    reach = max(map(abs, levels))
    x = torch.cat([reach * seeded(4000).clamp(-3, 3) / 3, torch.tensor(levels), torch.tensor([reach])])
    table = torch.tensor(levels)
    distance = (x[:, None] - table).abs()
    rounded = fake_quantize(x, scheme)
    assert ((rounded[:, None] - table).abs().amin(1) <= 1e-6 * reach).all()
    assert ((rounded - x).abs() <= distance.amin(1) + 1e-6 * reach).all()


@pytest.mark.parametrize("name", ["codebook[-1:1]", "codebook[-2:-1:1]", "int4-act-codebook[-1:1]"])
def test_a_codebook_without_a_level_of_zero_says_that_zero_does_not_stay(name: str) -> None:
    assert "levels, no zero level" in describe_scheme(parse_scheme(name))
    if "act" not in name:
        assert not (fake_quantize(torch.tensor([[0.0, 1.0, -1.0]]), name) == 0).any()


@pytest.mark.parametrize("name", ["nf4", "codebook[-1:0:1]", "codebook[-1:-0:1]"])
def test_a_codebook_with_a_level_of_zero_keeps_zero(name: str) -> None:
    assert "no zero level" not in describe_scheme(parse_scheme(name))
    assert fake_quantize(torch.tensor([[0.0, 1.0, -1.0]]), name)[0, 0] == 0


@pytest.mark.parametrize("scheme", ["nf4", "codebook[-1:0:1]", "int4", "fp8-e4m3", "mxfp4", "nvfp4"])
def test_under_vmap_a_block_with_nan_becomes_nan(scheme: str) -> None:
    """Nobody can be asked there whether a weight is finite."""
    weights = seeded(2, 3, 16)
    weights[1, 2, 4] = math.nan
    rounded = torch.func.vmap(lambda weight: fake_quantize(weight, scheme))(weights)
    assert rounded[1, 2, 4].isnan()
    assert torch.equal(rounded[0], fake_quantize(weights[0], scheme))


# ---- where scales end


@pytest.mark.parametrize(
    ("scheme", "smallest"),
    [("int4-g32", 2.0**-24), ("nf4-g64", 2.0**-24), ("int4-g32-e8m0scales", 2.0**-126), ("mxfp4", 2.0**-126)],
)
def test_a_scale_below_what_can_be_stored_becomes_the_smallest(scheme: str, smallest: float) -> None:
    weight = torch.tensor([[0.2, 0.9, -0.9, 0.0]]) * smallest
    rounded = fake_quantize(weight, scheme)
    levels = {"nf4-g64": [-0.9], "mxfp4": [-1.0]}.get(scheme, [-1.0])
    assert torch.isfinite(rounded).all()
    assert float(rounded.abs().max()) <= smallest
    assert rounded[0, 3] == 0
    if scheme != "nf4-g64":
        assert rounded[0, 2] == levels[0] * smallest


def test_a_scale_beyond_fp16_clips_and_stays_finite() -> None:
    weight = torch.tensor([[3e38, -3e38, 65504.0 * 3]])
    assert fake_quantize(weight, "int4-g128").tolist() == [[65504.0 * 7, -65504.0 * 7, 65504.0 * 3]]


@pytest.mark.parametrize("scheme", ["int4-g32", "nf4-g32", "mxfp4", "nvfp4"])
def test_an_outlier_costs_its_own_block_and_no_other(scheme: str) -> None:
    weight = seeded(1, 128)
    with_outlier = weight.clone()
    with_outlier[0, 5] = 8 * float(weight.abs().max())
    plain, changed = fake_quantize(weight, scheme), fake_quantize(with_outlier, scheme)
    error = (changed - with_outlier)[0, :32].norm()
    assert error > 3 * (plain - weight)[0, :32].norm()
    if scheme != "nvfp4":  # its tensor scale moves every block a little
        assert torch.equal(changed[0, 32:], plain[0, 32:])


@pytest.mark.parametrize("scheme", ["int4", "int4-g32", "int4-g32-asym", "fp8-e4m3", "nf4-g64", "mxfp4", "nvfp4"])
def test_zero_groups_stay_zero_beside_others(scheme: str) -> None:
    weight = seeded(3, 128)
    weight[:, 64:] = 0
    weight[1] = 0
    rounded = fake_quantize(weight, scheme)
    assert not rounded[:, 64:].any()
    assert not rounded[1].any()
    assert rounded[0, :64].any()


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38, 1e-30, 1e30, 3e38])
@pytest.mark.parametrize("scheme", ["int4", "int4-g32-asym", "fp8-e4m3", "fp8-e5m2-tensor", "nf4", "mxfp4", "nvfp4"])
def test_tensors_of_any_size_stay_finite(scheme: str, size: float) -> None:
    weight = torch.ones(2, 32) * size
    weight[0, ::2] = 0
    rounded = fake_quantize(weight, scheme)
    assert torch.isfinite(rounded).all()
    assert not rounded[0, ::2].any()
    assert float(rounded.abs().max()) <= 1.34 * size + 2.0**-126  # MX clips to six eighths of the next power of two
    if 1e-30 <= size <= 1e30 and "g32" not in scheme:
        assert float(rounded[1, 1]) == pytest.approx(size, rel=0.26)


# ---- what is stored


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [
        ("mxfp4", 4.25),
        ("mxfp6-e2m3", 6.25),
        ("mxfp6-e3m2", 6.25),
        ("mxfp8-e4m3", 8.25),
        ("nvfp4", 4.5 + 32 / 512**2),
        ("int4-g128", 4.125),
        ("nf4-g64", 4.25),
        ("fp8-e4m3-b128", 8 + 32 / 128**2),
        ("fp8-e4m3-tensor", 8 + 32 / 512**2),
        ("int8", 8 + 32 / 512),
        ("int4-g128-asym", 4 + 20 / 128),
    ],
)
def test_effective_bits(scheme: str, bits: float) -> None:
    variant = quantize(torch.nn.Linear(512, 512, bias=False), scheme)
    assert variant.effective_bits == pytest.approx(bits, rel=1e-12)
    assert variant.size_bytes == math.ceil(bits * 512**2 / 8)


def test_the_list_and_a_layer_agree_on_effective_bits() -> None:
    for facts in available_schemes():
        if facts.family != "activations":
            stored = stored_bits(1024, 1024, parse_scheme(facts.name))
            assert stored / 1024**2 == pytest.approx(facts.effective_bits, abs=1e-6), facts.name
