"""The band of a spectral density holds the exact one, smoothed alike, as often as it says."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from quant_lens_engine.curvature.dense import DenseOperator
from quant_lens_engine.curvature.density import lanczos_density

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


@pytest.mark.parametrize("kind", ["one-sided", "two-sided", "many zeros"])
def test_the_band_holds_the_exact_density(kind: str) -> None:
    """Over 100 seeds, at points weighted by the density itself; 95% is asked for, of five runs each."""
    values = spectrum(kind)
    operator = DenseOperator(torch.diag(torch.from_numpy(values)))
    inside, distances = [], []
    for seed in range(100):
        density = lanczos_density(operator, runs=4, steps=12, seed=seed)
        kernel = np.exp(-0.5 * ((density.x[:, None] - values[None]) / density.width) ** 2)
        exact = kernel.sum(1) / (density.width * np.sqrt(2 * np.pi) * SIZE)
        held = (exact >= density.low - 1e-9) & (exact <= density.high + 1e-9)
        inside.append(np.average(held, weights=exact))
        distances.append(wasserstein_distance(density.nodes, values, density.weights))
        assert np.trapezoid(density.y, density.x) == pytest.approx(1, abs=0.02)
    assert 0.90 <= np.mean(inside) <= 0.995
    assert np.mean(distances) < 0.02 * np.ptp(values) / 10
