"""Counts, densities and traces where eigenvalues come in copies and clusters, or are zero."""

import numpy as np
import pytest
import torch
from torch import nn

from quant_lens_engine.curvature import measure_curvature
from quant_lens_engine.curvature.dense import DenseOperator
from quant_lens_engine.curvature.density import lanczos_density
from quant_lens_engine.curvature.lanczos import extreme_spectrum
from quant_lens_engine.curvature.records import add_density
from quant_lens_engine.curvature.shared_products import density_runs, sampled_traces
from quant_lens_engine.curvature.traces import BlockTraces
from quant_lens_engine.objective import Objective
from quant_lens_engine.schema import Curvature

DRAWN = np.random.default_rng(0)
SPECTRA = {
    "rank 40 of 200": [*DRAWN.uniform(1, 5, 40), *[0.0] * 160],
    "160 nearly zero": [*DRAWN.uniform(1, 5, 40), *[1e-9] * 160],
    "a negative cluster": [*np.linspace(-1, -1.0001, 20), *DRAWN.uniform(0.5, 5, 180)],
    "20 copies of -1": [*[-1.0] * 20, *DRAWN.uniform(0.5, 3, 200)],
    "two values": [*[2.0] * 10, *[1.0] * 90],
    "no copies": list(DRAWN.standard_normal(300) ** 3),
}
SEEDS = range(20)


@pytest.mark.parametrize("kind", sorted(SPECTRA))
def test_counts_and_traces_hold_the_truth(kind: str) -> None:
    values = np.array(SPECTRA[kind])
    operator = DenseOperator(torch.diag(torch.from_numpy(values)))
    held = {"negative": 0, "positive": 0, "trace": 0}
    for seed in SEEDS:
        spectrum = extreme_spectrum(operator, top=5, bottom=5, tolerance=1e-4, inner_tolerance=1e-3, seed=seed)
        runs = density_runs(operator, spectrum, runs=4, steps=12, seed=seed)
        found = Curvature()
        add_density(found, runs, len(values), 0, 0.95)
        negative, positive = found.negative, found.positive
        slack = 1e-6  # of counts that are known: rounding
        held["negative"] += negative.lower - slack <= (values < -found.threshold).sum() <= negative.upper + slack
        held["positive"] += positive.lower - slack <= (values > found.threshold).sum() <= positive.upper + slack
        traces = BlockTraces(spectrum.first, beyond=spectrum.beyond_first())
        mean = sampled_traces(operator, spectrum, traces, relative_error=0.02, probes=64, seed=seed).whole
        low, high = mean.interval(0.95)
        held["trace"] += low - 1e-9 * abs(low) <= values.sum() <= high + 1e-9 * abs(high)
    assert held["negative"] >= 18, held
    assert held["positive"] >= 18, held
    assert held["trace"] >= 16, held


@pytest.mark.parametrize("values", [[*DRAWN.uniform(1, 4, 12), *[0.0] * 388], [*[1.0] * 397, 2.0, 3.0, 4.0]])
def test_one_ritz_value_stands_for_all_copies(values: list[float]) -> None:
    """In the mean over seeds the density has the spectrum's mean, and its mass where most eigenvalues are."""
    exact = np.array(values)
    operator = DenseOperator(torch.diag(torch.from_numpy(exact)))
    most = np.median(exact)
    means, masses = [], []
    for seed in SEEDS:
        density = lanczos_density(operator, seed=seed)
        means.append(float(density.nodes @ density.weights))
        masses.append(float(density.weights[np.abs(density.nodes - most) < 0.01].sum()))
    assert np.mean(means) == pytest.approx(exact.mean(), rel=0.05)
    assert np.mean(masses) == pytest.approx((exact == most).mean(), abs=0.01)


def test_a_zero_hessian_has_no_eigenvalue_of_either_sign() -> None:
    torch.manual_seed(0)
    objective = Objective(nn.Linear(6, 60), [(torch.randn(5, 6),)], lambda output, _: output.mean())
    found = measure_curvature(objective)
    assert (found.negative.value, found.negative.upper, found.positive.value, found.positive.upper) == (0, 0, 0, 0)


def test_fewer_rows_than_parameters() -> None:
    """A linear regression has as many eigenvalues above zero as rows."""
    torch.manual_seed(0)
    data = [(torch.randn(20, 80, dtype=torch.float64), torch.randn(20, 1, dtype=torch.float64))]
    objective = Objective(nn.Linear(80, 1, bias=False).double(), data, task="regression")
    found = measure_curvature(objective)
    assert found.positive.lower - 1e-6 <= 20 <= found.positive.upper + 1e-6
    assert found.positive.upper < 40
