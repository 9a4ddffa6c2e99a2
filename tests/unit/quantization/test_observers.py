"""Each observer against another way to say the same: torch, numpy, a plain loop, or brute force."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.observers._histogram import BINS, RunningHistogram
from quant_lens_engine.quantizers import QUANTIZERS, Range
from quant_lens_engine.schema import ActivationFormat

AFFINE = ActivationFormat(bits=8)
FOUR_BITS = ActivationFormat(bits=4)
SYMMETRIC = ActivationFormat(bits=4, symmetric=True)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def laplace(*shape: int) -> Tensor:
    uniform = torch.rand(*shape, generator=torch.Generator().manual_seed(1)) - 0.5
    return -uniform.sign() * torch.log1p(-2 * uniform.abs())


SHAPES = {
    "normal": seeded(40, 503),
    "laplace": laplace(40, 503),
    "relu": seeded(40, 503).relu(),
    "shifted": seeded(40, 503).abs().square() - 0.3,
    "outliers": torch.where(seeded(40, 503, seed=3) > 3.2, 12.0, seeded(40, 503)),
}


@pytest.fixture(params=SHAPES)
def values(request: pytest.FixtureRequest) -> Tensor:
    return SHAPES[request.param]


def ends(observer: str, fmt: ActivationFormat, values: Tensor, rows: int = 7) -> tuple[float, float]:
    watching = OBSERVERS[observer]()
    for batch in values.split(rows):
        watching.update(batch)
    span = watching.span(fmt)
    return float(span.low), float(span.high)


def lost(values: Tensor, low: float, high: float, fmt: ActivationFormat) -> float:
    """The squared error on the raw values."""
    quantizer = QUANTIZERS[fmt.format]
    span = Range(torch.tensor([low]).double(), torch.tensor([high]).double())
    qparams = quantizer.qparams(span, fmt, span)
    back = quantizer.decode(quantizer.encode(values.double().reshape(1, -1), qparams, fmt), qparams, fmt)
    return float((back - values.double().reshape(1, -1)).square().sum())


def bin_of(values: Tensor) -> float:
    """The width of a bin: 4096 of them, up to the next power of two on each side."""
    return 2 * 2.0 ** (math.floor(math.log2(float(values.abs().max()))) + 1) / BINS


def test_min_max_is_aminmax(values: Tensor) -> None:
    assert ends("min-max", AFFINE, values) == tuple(map(float, values.aminmax()))


def test_the_moving_average_is_a_plain_loop(values: Tensor) -> None:
    low = high = None
    for row in values:
        first, last = float(row.min()), float(row.max())
        low = first if low is None else 0.99 * low + 0.01 * first
        high = last if high is None else 0.99 * high + 0.01 * last
    assert ends("moving-average", AFFINE, values) == pytest.approx((low, high), rel=1e-12)


def test_the_moving_average_is_torchs_at_one_row_a_batch(values: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.ao.quantization.MovingAverageMinMaxObserver(averaging_constant=0.01)
        for row in values:
            theirs(row[None])
    expected = float(theirs.min_val), float(theirs.max_val)
    assert ends("moving-average", AFFINE, values) == pytest.approx(expected, rel=1e-5)


def test_percentiles_are_numpys_to_a_bin(values: Tensor) -> None:
    low, high = ends("percentile", AFFINE, values)
    width = bin_of(values)
    assert low == pytest.approx(-np.quantile(-values, 1 - 1e-4, method="inverted_cdf"), abs=width)
    assert high == pytest.approx(np.quantile(values, 1 - 1e-4, method="inverted_cdf"), abs=width)
    reach = np.quantile(values.abs(), 1 - 1e-4, method="inverted_cdf")
    assert max(map(abs, ends("percentile", SYMMETRIC, values))) == pytest.approx(reach, abs=width)


def test_percentiles_cut_what_is_rare_and_nothing_else() -> None:
    values = seeded(100, 1000)
    values[0, :5] = 100.0  # 5 of 100 000: fewer than one in ten thousand
    assert ends("percentile", AFFINE, values)[1] < 5
    values[0, :50] = 100.0
    assert ends("percentile", AFFINE, values)[1] > 99


@pytest.mark.parametrize("fmt", [FOUR_BITS, SYMMETRIC, ActivationFormat(format="fp8-e4m3")], ids=lambda f: f.name)
def test_the_mse_range_is_that_of_brute_force_on_the_raw_values(values: Tensor, fmt: ActivationFormat) -> None:
    first, last = map(float, values.aminmax())
    factors = np.linspace(1, 0.01, 200)
    errors = [lost(values, factor * first, factor * last, fmt) for factor in factors]
    low, high = ends("mse", fmt, values)
    assert lost(values, low, high, fmt) <= 1.002 * min(errors)
    assert any(np.allclose((low, high), (factor * first, factor * last), rtol=1e-9) for factor in factors)


def test_the_mse_range_clips_where_that_pays_and_only_there() -> None:
    """Four bits on a Laplace distribution are clipped near five times its scale (Banner et al. 2019)."""
    many = laplace(200, 2000)
    assert ends("mse", ActivationFormat(bits=4, symmetric=True), many)[1] == pytest.approx(5.03, rel=0.1)
    uniform = torch.linspace(-1, 1, 40_001).reshape(-1, 1)
    low, high = ends("mse", FOUR_BITS, uniform, rows=9999)
    assert high - low == pytest.approx(2, rel=0.02)


def test_the_histogram_search_is_torchs_to_a_few_bins(values: Tensor) -> None:
    """Torch models the error of a bin; where the tail is thin, one value more or less is cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.ao.quantization.HistogramObserver(bins=2048)
        theirs(values)
        found = theirs._non_linear_param_search()
    low, high = map(float, found)
    ours = ends("histogram", AFFINE, values)
    assert lost(values, *ours, AFFINE) <= 1.01 * lost(values, low, high, AFFINE)
    width = float(values.max() - values.min()) / 2048
    for own, end, tail in zip(ours, (low, high), (values < low, values > high), strict=True):
        assert abs(own - end) <= 8 * width or int(tail.sum()) <= 4


@pytest.mark.parametrize("observer", ["histogram", "mse"])
def test_a_search_never_loses_more_than_the_whole_range(observer: str, values: Tensor) -> None:
    for fmt in (AFFINE, FOUR_BITS, SYMMETRIC):
        whole = lost(values, *map(float, values.aminmax()), fmt)
        assert lost(values, *ends(observer, fmt, values), fmt) <= 1.001 * whole


def test_the_histogram_search_cuts_one_tail_alone() -> None:
    values = seeded(40, 503)
    values[0, 0] = 20.0
    low, high = ends("histogram", FOUR_BITS, values)
    assert high < 6
    assert low == pytest.approx(float(values.min()), abs=1.5)
    assert low < -2.5


def divergence(counts: np.ndarray, centres: np.ndarray, low: float, high: float, fmt: ActivationFormat) -> float:
    """KL(P ‖ Q) with plain loops: P with its tails in the outer bins, Q with each code's mass spread evenly."""
    levels = 2**fmt.bits - 1
    scale = (max(high, 0) - min(low, 0)) / levels
    zero = round(-min(low, 0) / scale)
    half = (centres[1] - centres[0]) / 2
    inside = [place for place, centre in enumerate(centres) if centre + half > low and centre - half <= high]
    reference = {place: float(counts[place]) for place in inside}
    reference[inside[0]] += float(counts[: inside[0]].sum())
    reference[inside[-1]] += float(counts[inside[-1] + 1 :].sum())
    codes: dict[int, list[int]] = {}
    for place in inside:
        code = min(max(round(centres[place] / scale) + zero, 0), levels)
        codes.setdefault(code, []).append(place)
    spread = {}
    for places in codes.values():
        used = [place for place in places if counts[place] > 0]
        for place in used:
            spread[place] = float(sum(counts[other] for other in used)) / len(used)
    total_p, total_q = sum(reference.values()), sum(spread.values())
    kl = 0.0
    for place, mass in reference.items():
        if mass:
            p, q = mass / total_p, spread.get(place, 0.0) / total_q
            kl += p * math.log(p / max(q, 1e-12))
    return kl


@pytest.mark.parametrize("name", ["laplace", "relu"])
def test_the_entropy_range_has_the_least_divergence(name: str) -> None:
    values = SHAPES[name]
    first, last = map(float, values.aminmax())
    low, high = ends("entropy", FOUR_BITS, values)
    bound = bin_of(values) * BINS / 2
    counts, edges = np.histogram(values.numpy(), BINS, (-bound, bound))
    centres = (edges[1:] + edges[:-1]) / 2
    own = divergence(counts, centres, low, high, FOUR_BITS)
    factors = np.linspace(1, 0.05, 128)
    assert any(np.allclose((low, high), (factor * first, factor * last), rtol=1e-9) for factor in factors)
    for factor in factors[::9]:
        assert own <= divergence(counts, centres, factor * first, factor * last, FOUR_BITS) + 1e-3


def test_nothing_is_lost_and_nothing_cut_where_codes_hold_every_value() -> None:
    """Sixteen whole numbers, equally often: only the full range has KL zero."""
    values = torch.arange(16.0).repeat(10, 5)
    assert ends("entropy", FOUR_BITS, values) == (0.0, 15.0)


def test_a_histogram_counts_every_value_where_it_lies() -> None:
    values = torch.cat([seeded(50, 100), torch.tensor([[1.0, -1.0, 0.5, -(2.0**-40)] * 25])])
    histogram = RunningHistogram()
    for row in values:
        histogram.update(row[None])
    assert histogram.counts is not None
    reach = histogram.reach
    assert reach / 2 <= values.abs().max() < reach
    expected, _ = np.histogram(values.double().numpy(), BINS, (-reach, reach))
    assert np.array_equal(histogram.counts.numpy(), expected)
    edges = histogram.centres() - reach / BINS
    assert int(histogram.counts[edges == 1.0]) >= 25
    assert int(histogram.counts[: BINS // 2].sum()) == int((values < 0).sum())
