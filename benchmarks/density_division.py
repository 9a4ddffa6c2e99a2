"""How products are best divided between the processes of a spectral density, and how much each of them should count.

python -m benchmarks.density_division

A start vector of independent normal numbers looks the same in every basis, so a diagonal matrix with a network's
eigenvalues stands for its Hessian.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import torch
from scipy.stats import wasserstein_distance

from benchmarks.peers.reference import truth_of
from benchmarks.peers.workloads import mlp
from quant_lens_engine.curvature import density as densities
from quant_lens_engine.curvature.density import SpectralDensity, lanczos_density
from quant_lens_engine.curvature.interval import Array

SEEDS = range(40)
RESULT = Path(__file__).parent / "results" / "density-division.md"

DIVISIONS = ((24, 4, 12), (24, 3, 16), (24, 2, 24), (36, 3, 12), (36, 2, 18), (40, 1, 20), (72, 0, 1), (60, 4, 12),
             (60, 3, 16))  # fmt: skip
"""Steps of the first process, further processes, steps of each."""

INTRODUCTION = f"""# Density: division of the products

Wasserstein distance to the exact spectrum in units of the largest eigenvalue, mean over {len(SEEDS)} seeds, times 10⁴;
behind it the share of the exact density (seen through the same Gaussian, weighted by itself) that the 95 % band holds.
*Alike*: every process counts the same. *Shares*: as `shares_of` says, longer processes count more. The first three rows
are the former division (24 + 4 × 12) and neighbours of it; 36 + 3 × 12 is the default of `spectral_density`;
60 + 4 × 12 is what a run has at its default options where its eigenvalues take 60 products. A single process has no
band.

`python -m benchmarks.density_division`

"""


class Diagonal:
    """The operator of these eigenvalues."""

    device = torch.device("cpu")

    def __init__(self, values: Array) -> None:
        self.values, self.dimension = torch.from_numpy(values), len(values)

    def matvec(self, vector: torch.Tensor) -> torch.Tensor:
        """Times a vector."""
        return self.values * vector


def spectra() -> dict[str, Array]:
    """Of a trained network, of a random matrix with outliers, and flat; each ascending."""
    exact = truth_of(mlp()).spectrum
    assert exact is not None
    random = np.random.default_rng(0).standard_normal((2000, 2000))
    bulk = np.linalg.eigvalsh((random + random.T) / np.sqrt(8000))
    outliers = np.sort([*bulk, 12.0, 9.0, 7.0, 5.0, 4.0, -3.0])
    return {"MLP W1, 10 002": exact, "Wigner + outliers, 2 006": outliers, "flat, 2 000": np.linspace(0, 1, 2000)}


def held(found: SpectralDensity, exact: Array) -> float:
    """The share of the exact density that the band holds."""
    if not len(found.low):
        return float("nan")
    seen = np.array([np.exp(-0.5 * ((x - exact) / found.width) ** 2).sum() for x in found.x])
    seen /= found.width * np.sqrt(2 * np.pi) * len(exact)
    return float(np.average((seen >= found.low - 1e-9) & (seen <= found.high + 1e-9), weights=seen))


def cell(exact: Array, division: tuple[int, int, int]) -> str:
    """Distance and coverage of one division."""
    first, runs, steps = division
    distances, covered = [], []
    for seed in SEEDS:
        found = lanczos_density(Diagonal(exact), runs=runs, steps=steps, first_steps=first, seed=seed)
        weights = np.maximum(found.weights, 0)
        distances.append(wasserstein_distance(found.nodes, exact, u_weights=weights) / exact[-1])
        covered.append(held(found, exact))
    band = f", {np.mean(covered):.0%}" if runs else ""
    return f"{1e4 * np.mean(distances):.2f}{band}"


def main() -> None:
    """Write the table."""
    columns = spectra()
    heads = [f"{name}: {kind}" for name in columns for kind in ("alike", "shares")]
    lines = [f"| division | products | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for division in DIVISIONS:
        first, runs, steps = division
        cells = []
        for exact in columns.values():
            with mock.patch.object(densities, "shares_of", lambda found, _: np.full(len(found), 1 / len(found))):
                cells.append(cell(exact, division))
            cells.append(cell(exact, division))
        name = f"{first} + {runs} × {steps}" if runs else f"{first}"
        lines.append(f"| {name} | {first + runs * steps} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    RESULT.write_text(INTRODUCTION + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
