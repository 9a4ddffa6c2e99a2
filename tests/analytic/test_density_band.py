"""The band of a spectral density holds the exact one, smoothed alike, as often as it says."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from quant_lens_engine.curvature.dense import DenseOperator
from quant_lens_engine.curvature.density import density_of, lanczos_density, quadrature, shares_of
from quant_lens_engine.curvature.krylov import Krylov

pytestmark = pytest.mark.slow

SIZE = 400


def spectrum(kind: str) -> np.ndarray:
    """Eigenvalues as networks have them: a few large ones over a bulk; a bulk on both sides of zero; many zeros."""
    place = (np.arange(SIZE - 6) + 0.5) / (SIZE - 6)
    bulk = {
        "one-sided": place**6,
        "two-sided": np.sign(place - 0.4) * np.abs(place - 0.4) ** 3 * 4,
        "many zeros": np.where(place < 0.6, 0.0, (place - 0.6) ** 2 * 5),
    }[kind]
    return np.concatenate([bulk, [30.0, 18.0, 9.0, 5.0, 3.0, -1.5]])


KINDS = ["one-sided", "two-sided", "many zeros"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("effort", [{"runs": 4, "steps": 12}, {}, {"runs": 4, "steps": 12, "first_steps": 60}])
def test_the_band_holds_the_exact_density(kind: str, effort: dict[str, int]) -> None:
    """Over 100 seeds, at points weighted by the density itself; 95% is asked for, of four or five runs each."""
    values = spectrum(kind)
    operator = DenseOperator(torch.diag(torch.from_numpy(values)))
    inside, distances = [], []
    for seed in range(100):
        density = lanczos_density(operator, seed=seed, **effort)
        kernel = np.exp(-0.5 * ((density.x[:, None] - values[None]) / density.width) ** 2)
        exact = kernel.sum(1) / (density.width * np.sqrt(2 * np.pi) * SIZE)
        held = (exact >= density.low - 1e-9) & (exact <= density.high + 1e-9)
        inside.append(np.average(held, weights=exact))
        distances.append(wasserstein_distance(density.nodes, values, density.weights))
        assert np.trapezoid(density.y, density.x) == pytest.approx(1, abs=0.02)
    assert 0.90 <= np.mean(inside) <= 0.995
    assert np.mean(distances) < 0.02 * np.ptp(values) / 10


@pytest.mark.parametrize("kind", [*KINDS, "flat"])
def test_a_long_run_counts_more_than_short_ones_and_brings_the_spectrum_nearer(kind: str) -> None:
    """The mean that counts all runs alike is what short runs make of the spectrum, however long one of them is."""
    values = np.linspace(0, 1, 4 * SIZE) if kind == "flat" else spectrum(kind)
    operator = DenseOperator(torch.diag(torch.from_numpy(values)))
    weighted, alike = [], []
    for seed in range(20):
        runs = []
        for run, steps in enumerate((60, 12, 12, 12, 12)):
            process = Krylov(operator, seed, run=run)
            while process.products < steps:
                process.step()
            runs.append(quadrature(process, np.zeros(0)))
        found = density_of(runs, len(values), 0)
        shares = shares_of(runs, len(values))
        assert shares.sum() == pytest.approx(1)
        assert shares[0] > 2 * shares[1] == 2 * shares[4]
        nodes = np.concatenate([run.nodes for run in runs])
        weighted.append(wasserstein_distance(found.nodes, values, found.weights))
        alike.append(wasserstein_distance(nodes, values, np.concatenate([run.weights for run in runs])))
    assert np.mean(weighted) < np.mean(alike) * (0.7 if kind == "flat" else 1.02)


def test_runs_of_equal_length_count_alike_and_so_do_those_that_came_to_their_end() -> None:
    operator = DenseOperator(torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)))
    density = lanczos_density(operator, runs=2, steps=5)
    assert sorted(set(np.round(density.nodes, 9))) == [1, 2, 3]
    runs = [quadrature(Krylov(operator, 0, run=run), np.zeros(0)) for run in range(3)]
    assert shares_of(runs, 3).tolist() == pytest.approx([1 / 3] * 3)
