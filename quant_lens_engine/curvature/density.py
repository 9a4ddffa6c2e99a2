"""The spectral density of a symmetric operator by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from quant_lens_engine.curvature.interval import Array
from quant_lens_engine.curvature.krylov import Krylov, SymmetricOperator


class SpectralDensity(NamedTuple):
    """Probability per eigenvalue unit ``y`` at ``x``, both ``(points,)``; its integral is 1.

    ``nodes`` and ``weights`` are the quadrature behind it: Σ w f(node) ≈ Tr f(A)/n.
    """

    x: Array
    y: Array
    hvps: int
    nodes: Array
    weights: Array


def lanczos_density(
    operator: SymmetricOperator, *, runs: int = 8, steps: int = 20, points: int = 512, seed: int = 0
) -> SpectralDensity:
    """φ(x) ≈ Σ w g(x − θ) over the Ritz values θ of several random starts (Ubaru, Chen and Saad 2017).

    The weight of a Ritz value is the squared first component of its vector in the tridiagonal matrix. All vectors are
    re-orthogonalised, so no eigenvalue shows twice. The kernel g is a Gaussian of 1/100 of the spectrum's range.

    Args:
        operator: symmetric.
        runs: random start vectors.
        steps: products of each.
        points: of the grid.
        seed: of the start vectors.
    """
    nodes: list[Array] = []
    weights: list[Array] = []
    products = 0
    for run in range(runs):
        krylov = Krylov(operator, seed, run=run)
        while krylov.steps < steps and not krylov.full:
            krylov.step()
        ritz = krylov.ritz()
        nodes.append(ritz.values)
        weights.append(ritz.coefficients[0] ** 2 / runs)
        products += krylov.steps
    theta, omega = np.concatenate(nodes), np.concatenate(weights)
    span = float(theta.max() - theta.min()) or max(abs(float(theta.max())), 1.0)
    width = span / 100
    x = np.linspace(theta.min() - 5 * width, theta.max() + 5 * width, points)
    kernel = np.exp(-0.5 * ((x[:, None] - theta[None]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    return SpectralDensity(x, kernel @ omega, products, theta, omega)
