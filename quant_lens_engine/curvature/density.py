"""The spectral density of a symmetric operator, and sums over its spectrum, by stochastic Lanczos quadrature.

A process from a random vector is a quadrature of the spectrum: Σ w f(θ) ≈ Tr f(A)/n over its Ritz values θ, with the
squared first components of their vectors as weights (Ubaru, Chen and Saad 2017). Eigenvalues that are known are taken
out first, exactly, and each process runs on what is left (deflation). All vectors are re-orthogonalised, so no
eigenvalue shows twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quant_lens_engine.curvature.interval import Array
from quant_lens_engine.curvature.krylov import Krylov, SymmetricOperator, step_together
from quant_lens_engine.curvature.lanczos import orthonormal
from quant_lens_engine.curvature.spectrum_end import error_of
from quant_lens_engine.curvature.traces import student_factor

SETTLED = 1e-3
"""Relative error below which a Ritz value of the first process counts as known."""

REACH = 4.5
"""The grid ends so many widths of the kernel beyond the last node."""


class Quadrature(NamedTuple):
    """One estimate of the whole spectrum.

    Attributes:
        nodes: ``(m,)``.
        weights: ``(m,)``, they add up to one.
        known: eigenvalues that are known, each with all of its copies.
        shares: of the spectrum, that they are ``(known,)``.
        steps: products of the process.
        among: whether the process itself shows the known ones; one that was deflated shows further copies only.
        tridiagonal: its matrix and the β beyond it, ``(steps, steps)`` and a number; None where it had no step.
    """

    nodes: Array
    weights: Array
    known: Array
    shares: Array
    steps: int = 0
    tridiagonal: tuple[Array, float] | None = None
    among: bool = False


class SpectralDensity(NamedTuple):
    """Probability per eigenvalue unit ``y`` at ``x``, both ``(points,)``; its integral is 1.

    ``low`` and ``high`` are its band over runs. ``width`` is the kernel's standard deviation. ``nodes`` and ``weights``
    are the quadrature behind it: Σ w f(node) ≈ Tr f(A)/n.
    """

    x: Array
    y: Array
    hvps: int
    nodes: Array
    weights: Array
    low: Array
    high: Array
    width: float


def quadrature(krylov: Krylov, known: Array) -> Quadrature:
    """The quadrature of a deflated process, with the ``known`` eigenvalues that it leaves out.

    Example:
        >>> import torch
        >>> from quant_lens_engine.curvature.dense import DenseOperator
        >>> process = Krylov(DenseOperator(torch.diag(torch.tensor([1.0, 2.0, 3.0]))), seed=0)
        >>> for _ in range(3):
        ...     process.step()
        >>> quadrature(process, np.array([])).nodes.round(6).tolist()
        [1.0, 2.0, 3.0]
    """
    dimension = krylov.operator.dimension
    one_each = np.full(len(known), 1 / dimension)
    if not krylov.size:
        return Quadrature(known, one_each, known, one_each)
    ritz = krylov.ritz()
    weights = (dimension - len(known)) / dimension * ritz.coefficients[0] ** 2
    return Quadrature(
        np.concatenate([known, ritz.values]), np.concatenate([one_each, weights]), known, one_each, krylov.size,
        (krylov.projected.copy(), krylov.beta),
    )  # fmt: skip


def first_quadrature(krylov: Krylov, settled: Sequence[int], others: Sequence[Quadrature]) -> Quadrature:
    """The quadrature of the first process, with the weights of its ``settled`` Ritz values from elsewhere.

    The component of its start vector along an eigenvector that is known tells nothing of the others, so it is replaced
    by what the ``others`` have there: one eigenvalue each for the vectors that they were deflated by, and what they
    still see. For one Ritz value of a process stands for all copies of an eigenvalue, or for a cluster of them.
    """
    ritz = krylov.ritz()
    tridiagonal = (krylov.projected.copy(), krylov.beta)
    weights = ritz.coefficients[0] ** 2
    if not others or not len(settled):
        none = np.zeros(0)
        return Quadrature(ritz.values, weights, none, none, krylov.size, tridiagonal)
    known = ritz.values[list(settled)]
    shares = np.zeros(len(known))
    for run in others:
        near = stand_for(run.nodes, known)
        places = np.abs(known[:, None] - run.nodes[None, near]).argmin(0)
        np.add.at(shares, places, run.weights[near] / len(others))
    rest = np.setdiff1d(np.arange(len(weights)), settled)
    left, seen = max(0.0, 1 - float(shares.sum())), float(weights[rest].sum())
    if seen:
        weights[rest] *= left / seen
        weights[list(settled)] = shares
    else:
        weights[list(settled)] = shares / shares.sum()
        shares = weights[list(settled)]
    return Quadrature(ritz.values, weights, known, shares, krylov.size, tridiagonal, among=True)


def stand_for(nodes: Array, known: Array) -> NDArray[np.bool_]:
    """Which nodes are copies of known eigenvalues, or too near to them to be told apart."""
    if not len(known):
        return np.zeros(len(nodes), dtype=bool)
    allowed = SETTLED * np.maximum(np.abs(known), 0.01 * np.abs(known).max())
    near: NDArray[np.bool_] = (np.abs(nodes[:, None] - known[None]) <= allowed[None]).any(1)
    return near


def density_of(runs: Sequence[Quadrature], dimension: int, products: int, confidence: float = 0.95) -> SpectralDensity:
    """φ(x) ≈ Σ over runs of their share times Σ w g(x − θ), with a Gaussian g as narrow as the runs can resolve.

    The width is 2.5 times the mean distance between the neighbouring nodes of a run, weighted as they are: finer detail
    would be that of the nodes, not of the spectrum.
    """
    shares = shares_of(runs, dimension)
    nodes = np.concatenate([run.nodes for run in runs])
    weights = np.concatenate([share * run.weights for share, run in zip(shares, runs, strict=True)])
    width = resolution(runs, shares)
    x = _grid(nodes, width)
    each = np.stack([_smoothed(run, x, width) for run in runs])
    low, high = _band(each, shares, confidence)
    return SpectralDensity(x, shares @ each, products, nodes, weights, low, high, width)


def shares_of(runs: Sequence[Quadrature], dimension: int) -> Array:
    """How much each run counts in the mean, ``(runs,)``; they add up to one.

    Two errors make up that of a run's distribution function. It is a staircase of m steps, within 1/m of what its start
    vector sees: a variance of 1/12m², much the same one for every run of m steps, so that a mean of them keeps it. And
    its start vector is one sample of n eigenvalues: a variance of 1/2n at most, which a mean of r runs divides by r. So
    runs of equal length count 1/(1/12m² + 1/2nr) together.

    Example:
        >>> import torch
        >>> from quant_lens_engine.curvature.dense import DenseOperator
        >>> process = Krylov(DenseOperator(torch.diag(torch.linspace(-1, 3, 400))), seed=0)
        >>> for _ in range(6):
        ...     process.step()
        >>> short = quadrature(process, np.array([]))
        >>> for _ in range(18):
        ...     process.step()
        >>> shares_of([quadrature(process, np.array([])), short, short], 400).round(2).tolist()
        [0.68, 0.16, 0.16]
    """
    steps = np.array([run.steps for run in runs])
    shares = np.zeros(len(runs))
    for count in np.unique(steps):
        alike = steps == count
        group = [run for run, one in zip(runs, alike, strict=True) if one]
        # a process that came to its end has the eigenvalues themselves for nodes
        ended = all(run.tridiagonal is None or not run.tridiagonal[1] for run in group)
        staircase = 0.0 if ended else 1 / (12 * count**2)
        shares[alike] = 1 / (staircase + 1 / (2 * dimension * len(group))) / len(group)
    found: Array = shares / shares.sum()
    return found


def resolution(runs: Sequence[Quadrature], shares: Array) -> float:
    """Two and a half times the mean distance between neighbouring nodes, where the weight is."""
    width = counted = 0.0
    for run, share in zip(runs, shares, strict=True):
        order = np.argsort(run.nodes)
        nodes, weights = run.nodes[order], run.weights[order]
        if len(nodes) > 1:
            gaps = np.diff(nodes)
            around = np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf))
            width += float(share * (weights @ around))
            counted += float(share)
    span = float(np.ptp(np.concatenate([run.nodes for run in runs])))
    magnitude = max(float(np.abs(run.nodes).max()) for run in runs)
    return max(2.5 * width / counted if counted else 0.0, span / 1000, 1e-3 * magnitude) or 1e-12


def lanczos_density(
    operator: SymmetricOperator,
    *,
    runs: int = 3,
    steps: int = 12,
    first_steps: int | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> SpectralDensity:
    """The density from one long process, whose settled eigenvalues the others leave out.

    Args:
        operator: symmetric.
        runs: random start vectors, the first one apart.
        steps: products of each.
        first_steps: products of the first process; None for three times ``steps``: the longest run resolves most,
            the others see other samples of the eigenvalues, and give the band.
        seed: of the start vectors.
        confidence: of the band.
    """
    first, first_steps = Krylov(operator, seed), first_steps or 3 * steps
    while first.products < min(first_steps, first.limit) and not first.full:  # a restart would lose the weights
        first.step()
    settled = settled_indices(first)
    known = first.ritz().values[settled]
    products = first.products
    deflated = orthonormal(first.vectors(first.ritz(), settled)) if settled else None
    others = [Krylov(operator, seed, run=run, deflated=deflated) for run in range(1, runs + 1)]
    while growing := [krylov for krylov in others if krylov.products < min(steps, krylov.limit) and not krylov.full]:
        step_together(growing)
    products += sum(krylov.products for krylov in others)
    found = [quadrature(krylov, known) for krylov in others]
    return density_of([first_quadrature(first, settled, found), *found], operator.dimension, products, confidence)


def settled_indices(krylov: Krylov) -> list[int]:
    """Ritz values that have become eigenvalues, from both ends inwards."""
    ritz = krylov.ritz()
    magnitude = float(np.abs(ritz.values).max())

    def settled(index: int) -> bool:
        allowed = SETTLED * max(abs(float(ritz.values[index])), 0.01 * magnitude)
        return float(ritz.residuals[index]) ** 2 <= allowed * magnitude and error_of(ritz, index) <= allowed

    found: list[int] = []
    for order in (range(len(ritz.values)), range(len(ritz.values) - 1, -1, -1)):
        for index in order:
            if index in found or not settled(index):
                break
            found.append(index)
    return sorted(found)


def _smoothed(run: Quadrature, x: Array, width: float) -> Array:
    kernel = np.exp(-0.5 * ((x[:, None] - run.nodes[None]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    smoothed: Array = kernel @ run.weights
    return smoothed


def _band(each: Array, shares: Array, confidence: float) -> tuple[Array, Array]:
    """Of a mean with these shares, by how much the runs differ; a short one more than a long one: that is allowed."""
    if len(each) < 2:
        return np.array([]), np.array([])
    mean = shares @ each
    error = each.std(0, ddof=1) * math.sqrt(shares @ shares) * student_factor(len(each), confidence)
    return np.maximum(mean - error, 0.0), mean + error


def _grid(nodes: Array, width: float) -> Array:
    """Points half a width apart around the nodes; none where the density is zero, but at the edges of such a gap."""
    ordered = np.sort(nodes)
    breaks = np.flatnonzero(np.diff(ordered) > 2 * REACH * width)
    starts = ordered[np.concatenate([[0], breaks + 1])] - REACH * width
    ends = ordered[np.concatenate([breaks, [len(ordered) - 1]])] + REACH * width
    # around a single node the number is a whole one: rounding must not decide how many points there are
    pieces = [
        np.linspace(start, end, max(3, math.ceil(round((end - start) / (width / 2), 6)) + 1))
        for start, end in zip(starts, ends, strict=True)
    ]
    return np.concatenate(pieces)
