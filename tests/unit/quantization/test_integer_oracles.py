"""The integer formats against published and closed-form numbers."""

import math

import pytest
import torch

from quant_lens_engine.errors import InputError, SchemeError
from quant_lens_engine.quantization import fake_quantize

TORCHAO = "quant_lens: torchao is not installed, so it was not compared with"


def sqnr_db(x: torch.Tensor, scheme: str) -> float:
    return 20 * math.log10(float(x.double().norm() / (x.double() - fake_quantize(x, scheme).double()).norm()))


@pytest.fixture(scope="module")
def uniform() -> torch.Tensor:
    x = torch.rand(1, 2_000_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x[0, 0], x[0, 1] = 1, -1
    return x


@pytest.fixture(scope="module")
def normal() -> torch.Tensor:
    return torch.randn(1, 2**20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", range(2, 9))
def test_narrow_range_on_uniform_weights(uniform: torch.Tensor, bits: int) -> None:
    assert sqnr_db(uniform, f"int{bits}") == pytest.approx(20 * math.log10(2**bits - 2), abs=0.02)


@pytest.mark.parametrize("flag", ["asym", "full"])
@pytest.mark.parametrize("bits", range(2, 9))
def test_affine_and_full_range_on_uniform_weights(uniform: torch.Tensor, bits: int, flag: str) -> None:
    assert sqnr_db(uniform, f"int{bits}-{flag}") == pytest.approx(20 * math.log10(2**bits - 1), abs=0.02)


@pytest.mark.parametrize(
    ("scheme", "oracle"), [("int8-g128", 43.78), ("int4-g128", 18.61), ("int4-g64", 19.36), ("int4-g32", 20.26)]
)
def test_groups_on_normal_weights(normal: torch.Tensor, scheme: str, oracle: float) -> None:
    assert sqnr_db(normal, scheme) == pytest.approx(oracle, abs=0.1)


def test_one_outlier_ruins_a_tensor_and_spares_the_other_channels() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 256)
    weight[0, 0] = 40
    relative = {
        name: float((weight - fake_quantize(weight, name)).norm() / weight.norm()) for name in ("int4", "int4-tensor")
    }
    assert relative["int4-tensor"] > 5 * relative["int4"]


def test_scales_of_groups_are_really_stored_in_fp16() -> None:
    weight = torch.tensor([[0.1, 0.2, 0.3]])
    scale = torch.tensor(0.3 / 7).half().double()
    expected = ((weight.double() / scale).round().clamp(-7, 7) * scale).float()
    assert torch.equal(fake_quantize(weight, "int4-g128"), expected)
    assert not torch.equal(fake_quantize(weight, "int4"), expected)


def test_groups_are_consecutive_and_the_last_may_be_short() -> None:
    weight = torch.tensor([[7.0, 3.0, 14.0, 5.0, 0.7]])
    expected = torch.tensor([[7.0, 3.0, 14.0, 4.0, float(torch.tensor(0.1).half()) * 7]])
    torch.testing.assert_close(fake_quantize(weight, "int4-g2"), expected)


def test_a_scale_too_small_for_fp16_becomes_its_smallest_number() -> None:
    smallest = 2.0**-24
    weight = torch.tensor([[smallest * 0.2, smallest * 0.9]])
    assert fake_quantize(weight, "int4-g128").tolist() == [[0.0, smallest]]


def test_an_asymmetric_range_always_holds_zero() -> None:
    assert fake_quantize(torch.tensor([[10.0, 10.5, 11.0, 0.0]]), "int4-asym")[0, 3] == 0
    rounded = fake_quantize(torch.tensor([[10.0, 10.5, 11.0]]), "int4-asym")
    assert (rounded - torch.tensor([[10.0, 10.5, 11.0]])).abs().max() <= 11 / 15 / 2 + 1e-6


def test_a_vector_is_one_channel_and_an_empty_tensor_stays_empty() -> None:
    vector = torch.tensor([1.0, 0.2, -0.7])
    assert torch.equal(fake_quantize(vector, "int2"), torch.tensor([1.0, 0.0, -1.0]))
    assert fake_quantize(torch.empty(0, 3), "int8").shape == (0, 3)


def test_no_derivative_is_lost_where_nothing_is_required() -> None:
    assert not fake_quantize(torch.randn(2, 3), "int8").requires_grad


@pytest.mark.parametrize("scheme", ["int1", "int9", "int8-g0", "int8-asym-full", "fp7", "", "INT8", "int8-int8"])
def test_unknown_schemes_are_refused_with_the_grammar(scheme: str) -> None:
    with pytest.raises(SchemeError, match="unknown scheme") as refused:
        fake_quantize(torch.randn(2, 3), scheme)
    assert "int4-g128" in refused.value.hint


@pytest.mark.parametrize("given", [[1.0, 2.0], 3.0, None])
def test_what_is_no_tensor_is_refused(given: object) -> None:
    with pytest.raises(InputError, match=type(given).__name__) as refused:
        fake_quantize(given, "int4")  # type: ignore[arg-type]
    assert refused.value.code == "not_a_tensor"


def test_only_floating_point_is_rounded() -> None:
    with pytest.raises(SchemeError, match=r"torch\.int64"):
        fake_quantize(torch.arange(4), "int8")


@pytest.mark.parametrize(("bits", "dtype"), [(4, "int4"), (8, "int8"), (2, "int2")])
def test_the_full_range_is_torchaos_symmetric(bits: int, dtype: str) -> None:
    primitives = pytest.importorskip("torchao.quantization.quant_primitives", reason=TORCHAO)
    weight = torch.randn(512, 64, generator=torch.Generator().manual_seed(bits))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scale, zero = primitives.choose_qparams_affine(
        weight, primitives.MappingType.SYMMETRIC, (1, 64), torch.int8, low, high, scale_dtype=torch.float32
    )
    codes = primitives.quantize_affine(weight, (1, 64), scale, zero, torch.int8, low, high)
    theirs = primitives.dequantize_affine(codes, (1, 64), scale, zero, torch.int8, low, high)
    assert torch.equal(fake_quantize(weight, f"int{bits}-full"), theirs)
