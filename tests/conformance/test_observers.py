"""What every observer owes. Runs over the registry: a new observer is tested the day it lands."""

import pytest
import torch
from torch import Tensor

from quant_lens_engine.errors import NumericalError
from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.quantizers import QUANTIZERS, Range
from quant_lens_engine.schema import ActivationFormat

FORMATS = {
    "affine": ActivationFormat(bits=8),
    "symmetric": ActivationFormat(bits=4, symmetric=True),
    "float": ActivationFormat(format="fp8-e4m3"),
    "codebook": ActivationFormat(format="nf4"),
    "two-levels": ActivationFormat(format="nvfp4"),
}


@pytest.fixture(params=OBSERVERS)
def observer(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["affine", "symmetric"])
def fmt(request: pytest.FixtureRequest) -> ActivationFormat:
    return FORMATS[request.param]


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def span_after(observer: str, fmt: ActivationFormat, *batches: Tensor) -> Range:
    watching = OBSERVERS[observer]()
    for batch in batches:
        watching.update(batch)
    return watching.span(fmt)


def rounded(values: Tensor, span: Range, fmt: ActivationFormat) -> Tensor:
    quantizer = QUANTIZERS[fmt.format]
    qparams = quantizer.qparams(span, fmt, span)
    return quantizer.decode(quantizer.encode(values.to(span.low), qparams, fmt), qparams, fmt)


GROWING = seeded(24, 3, 50) * 2.0 ** torch.arange(-8, 16)[:, None, None]
INPUTS = {
    "normal": seeded(24, 3, 50),
    "growing": GROWING,
    "pixels": (seeded(24, 30) > 0).float() * torch.linspace(0, 1, 24)[:, None].round(),
    "tiny negatives": torch.cat([-seeded(12, 40).abs() * 2.0**-40, seeded(12, 40, seed=1).abs()]),
}


@pytest.mark.parametrize("values", INPUTS)
def test_what_is_kept_does_not_depend_on_how_rows_are_batched(observer: str, values: str) -> None:
    rows, fmt = INPUTS[values], FORMATS["affine"]
    whole = span_after(observer, fmt, rows)
    for sizes in ([1] * 24, [7, 7, 7, 3], [0, 24]):
        parts = span_after(observer, fmt, *rows.split(sizes))
        assert torch.equal(parts.low, whole.low)
        assert torch.equal(parts.high, whole.high)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("values", ["normal", "growing", "tiny negatives"])
def test_the_range_lies_within_what_was_seen(observer: str, name: str, values: str) -> None:
    rows = INPUTS[values]
    span = span_after(observer, FORMATS[name], rows)
    assert span.low.shape == span.high.shape == (1,)
    assert rows.min() <= span.low <= span.high <= rows.max()


@pytest.mark.parametrize("name", FORMATS)
def test_zeros_have_the_range_zero(observer: str, name: str) -> None:
    fmt = FORMATS[name]
    zeros = torch.zeros(5, 4)
    span = span_after(observer, fmt, zeros, zeros)
    assert span.low == span.high == 0
    assert torch.equal(rounded(zeros, span, fmt), zeros.to(span.low))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("value", [-3.0, 1.0, 1e-30, 1e30])
def test_a_constant_keeps_its_value(observer: str, name: str, value: float) -> None:
    fmt, constant = FORMATS[name], torch.full((5, 4), value)
    span = span_after(observer, fmt, constant)
    assert span.low == span.high
    assert float(span.low) == pytest.approx(value)
    assert torch.allclose(rounded(constant, span, fmt).float(), constant, rtol=1e-6)


def test_what_is_never_negative_stays_so(observer: str, fmt: ActivationFormat) -> None:
    values = seeded(30, 200).relu()
    span = span_after(observer, fmt, values)
    assert span.low >= 0
    assert 0.3 * values.max() < span.high <= values.max()
    back = rounded(values, span, fmt)
    assert (back >= 0).all()
    assert torch.equal(back[values == 0], torch.zeros_like(back[values == 0]))


def test_what_is_never_positive_stays_so(observer: str, fmt: ActivationFormat) -> None:
    values = -seeded(30, 200).relu()
    span = span_after(observer, fmt, values)
    assert span.high <= 0
    assert (rounded(values, span, fmt) <= 0).all()


@pytest.mark.parametrize("outlier", [1e4, -1e30])
def test_one_huge_outlier(observer: str, fmt: ActivationFormat, outlier: float) -> None:
    values = seeded(40, 100)
    values[3, 7] = outlier
    span = span_after(observer, fmt, values)
    assert torch.isfinite(span.low).all()
    assert torch.isfinite(span.high).all()
    assert values.min() <= span.low <= span.high <= values.max()
    assert torch.isfinite(rounded(values, span, fmt)).all()


def test_an_input_twice_as_large_has_twice_the_range(observer: str, fmt: ActivationFormat) -> None:
    values = seeded(40, 100)
    one, two = (span_after(observer, fmt, factor * values) for factor in (1, 2))
    torch.testing.assert_close(two.low, 2 * one.low)
    torch.testing.assert_close(two.high, 2 * one.high)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(observer: str, fmt: ActivationFormat, dtype: torch.dtype) -> None:
    values = seeded(20, 100).to(dtype)
    span, expected = (span_after(observer, fmt, x) for x in (values, values.float()))
    assert float(span.low) == pytest.approx(float(expected.low), rel=1e-6)
    assert float(span.high) == pytest.approx(float(expected.high), rel=1e-6)


def test_nothing_seen_is_said(observer: str, fmt: ActivationFormat) -> None:
    with pytest.raises(NumericalError) as refused:
        span_after(observer, fmt, torch.zeros(0, 4))
    assert refused.value.code == "nothing_observed"


def test_an_observer_says_what_it_does(observer: str) -> None:
    assert OBSERVERS[observer].description
