"""How many eigenvalues lie below a number, with an interval that really holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from quant_lens_engine.curvature.density import Quadrature, stand_for
from quant_lens_engine.curvature.interval import Array


class Count(NamedTuple):
    """An estimate, and the ends of its interval."""

    value: float
    lower: float
    upper: float


def count_below(runs: Sequence[Quadrature], threshold: float, dimension: int, confidence: float) -> Count:
    """The number of eigenvalues below ``threshold``.

    What a process of m steps knows of the spectral distribution of its start vector at t lies between two sums of
    weights of the Gauss-Radau quadrature with a node at t, and nothing narrower is certain (Chebyshev, Markov and
    Stieltjes; Golub and Meurant 2010, §7). The start vector is one sample of the spectrum: of k among n eigenvalues it
    sees k ± √(2k(1 − k/n)). The longest runs know most, so the others are left out.

    Example:
        >>> import torch
        >>> from quant_lens_engine.curvature.dense import DenseOperator
        >>> from quant_lens_engine.curvature.density import quadrature
        >>> from quant_lens_engine.curvature.krylov import Krylov
        >>> process = Krylov(DenseOperator(torch.diag(torch.linspace(-1, 3, 400))), seed=0)
        >>> for _ in range(40):
        ...     process.step()
        >>> count = count_below([quadrature(process, np.array([]))], 0.0, 400, 0.95)
        >>> count.lower < 100 < count.upper
        True
    """
    longest = max(run.steps for run in runs)
    chosen = [run for run in runs if run.steps == longest]
    brackets = np.array([_bracket(run, threshold, dimension) for run in chosen])
    low, high = brackets.mean(0)
    reach = float(norm.ppf((1 + confidence) / 2)) / math.sqrt(len(chosen))
    return Count(
        value=float(low + high) / 2,
        lower=max(0.0, float(low) - reach * _spread(float(low), dimension)),
        upper=min(float(dimension), float(high) + reach * _spread(float(high), dimension)),
    )


def _spread(count: float, dimension: int) -> float:
    count = min(max(count, 1.0), dimension - 1.0)
    return math.sqrt(2 * count * (1 - count / dimension))


def _bracket(run: Quadrature, threshold: float, dimension: int) -> tuple[float, float]:
    """Least and most of the eigenvalues that can be below, by what this run's start vector says."""
    known = dimension * float(run.shares[run.known < threshold].sum())
    if run.tridiagonal is None:
        return known, known
    rest = dimension * max(0.0, 1 - float(run.shares.sum()))
    nodes, weights = _radau(*run.tridiagonal, threshold)
    outside = ~stand_for(nodes, run.known) if run.among else np.ones(len(nodes), dtype=bool)
    total = weights[outside].sum()
    if not total:
        return known, known
    pinned = int(np.argmin(np.abs(nodes - threshold)))
    below = outside & (nodes < threshold)
    below[pinned] = False
    low = float(weights[below].sum() / total)
    return known + rest * low, known + rest * (low + float(weights[pinned] * outside[pinned] / total))


def _radau(matrix: Array, beta: float, node: float) -> tuple[Array, Array]:
    """The Gauss-Radau quadrature with a node at ``node`` (Golub 1973)."""
    size = len(matrix)
    extended = np.zeros((size + 1, size + 1))
    extended[:size, :size] = matrix
    extended[size, size - 1] = extended[size - 1, size] = beta
    last = np.zeros(size)
    last[-1] = beta**2
    shifted = matrix - node * np.eye(size)
    extended[size, size] = node + np.linalg.lstsq(shifted, last, rcond=None)[0][-1]  # singular where β is 0
    values, coefficients = np.linalg.eigh(extended)
    return values, coefficients[0] ** 2
