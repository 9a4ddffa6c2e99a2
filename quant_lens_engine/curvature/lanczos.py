"""Both ends of a symmetric operator's spectrum, from products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quant_lens_engine.curvature.interval import Array
from quant_lens_engine.curvature.krylov import Bounds, Krylov, Ritz, SymmetricOperator
from quant_lens_engine.errors import NumericalError


class Spectrum(NamedTuple):
    """The ends of a spectrum.

    Attributes:
        highest: the largest eigenvalue with its bound.
        lowest: the smallest eigenvalue with its bound.
        values: the largest eigenvalues, descending, with multiplicity.
        residuals: of ``values``.
        vectors: unit vectors of ``values``, ``(k, dimension)``.
        lowest_vector: of ``lowest``, ``(dimension,)``.
        krylov: the first process, whose basis other estimates can use.
        asymmetry: rounding error of the products.
        converged: both ends, and every value, are within tolerance, and nothing larger was missed.
        products: all of them.
    """

    highest: Bounds
    lowest: Bounds
    values: list[float]
    residuals: list[float]
    vectors: Tensor
    lowest_vector: Tensor
    krylov: Krylov
    asymmetry: float
    converged: bool
    products: int


def extreme_spectrum(
    operator: SymmetricOperator,
    *,
    top: int = 1,
    both_ends: bool = True,
    tolerance: float = 1e-4,
    max_products: int = 100,
    confidence: float = 0.95,
    seed: int = 0,
    on_step: Callable[[int], None] = lambda _: None,
) -> Spectrum:
    """The largest eigenvalues and the smallest one.

    The process stops when the interval from the Ritz value to its bound is narrower than the tolerance at both ends
    (:func:`upper_bound`), not when a residual is small: a small residual may belong to an inner eigenvalue. For
    ``top`` > 1 the other values stop by min(residual, residual²/gap), and since one start vector sees each distinct
    eigenvalue once, further processes, deflated against what was found, run until their bound shows that nothing
    above the last value is missing.

    Args:
        operator: symmetric.
        top: how many of the largest.
        both_ends: whether the smallest must converge as well.
        tolerance: relative to the eigenvalue, or to a hundredth of the largest magnitude where that is more.
        max_products: cap on products.
        confidence: of the bounds.
        seed: of the start vectors.
        on_step: called with the number of products after each.
    """
    goal = _Goal(min(top, operator.dimension), both_ends, tolerance, confidence)
    krylov = Krylov(operator, seed)
    used = _advance(krylov, lambda: goal.reached(krylov), max_products, 0, on_step)
    ritz = krylov.ritz()
    highest, lowest = krylov.bounds(ritz, confidence)
    settled = krylov.exhausted or goal.reached(krylov)
    order = list(range(len(ritz.values) - 1, -1, -1))[: goal.top]
    found = _Found(ritz.values[order], ritz.residuals[order], krylov.vectors(ritz, order), krylov.asymmetry)
    if goal.top > 1:
        used, complete = _find_missed(operator, found, goal, seed, max_products, used, on_step)
        settled = settled and complete
    return Spectrum(
        highest=highest,
        lowest=lowest,
        values=[float(value) for value in found.values],
        residuals=[float(residual) for residual in found.residuals],
        vectors=found.vectors,
        lowest_vector=krylov.vectors(ritz, [0])[0],
        krylov=krylov,
        asymmetry=found.asymmetry,
        converged=settled and found.asymmetry <= goal.allowance(highest.value, highest.value, lowest.value),
        products=used,
    )


class _Goal(NamedTuple):
    top: int
    both_ends: bool
    tolerance: float
    confidence: float

    def allowance(self, value: float, *spectrum: float) -> float:
        """The error allowed for ``value``; near zero a hundredth of the spectrum's magnitude stands in for it."""
        return self.tolerance * max(abs(value), 0.01 * max(map(abs, spectrum)))

    def reached(self, krylov: Krylov) -> bool:
        ritz = krylov.ritz()
        ends = (float(ritz.values[0]), float(ritz.values[-1]))
        highest, lowest = krylov.bounds(ritz, self.confidence)
        if highest.width > self.allowance(highest.value, *ends):
            return False
        if self.both_ends and lowest.width > self.allowance(lowest.value, *ends):
            return False
        return self.top == 1 or self._inner_values_settled(ritz, ends)

    def _inner_values_settled(self, ritz: Ritz, ends: tuple[float, float]) -> bool:
        count = len(ritz.values)
        if count <= self.top:
            return False
        for index in range(count - self.top, count):
            neighbours = [abs(ritz.values[index] - ritz.values[i]) for i in (index - 1, index + 1) if i < count]
            gap, residual = max(min(neighbours), 1e-300), ritz.residuals[index]
            if min(residual, residual**2 / gap) > self.allowance(float(ritz.values[index]), *ends):
                return False
        return True


class _Found:
    """The largest eigenpairs found so far, descending."""

    def __init__(self, values: Array, residuals: Array, vectors: Tensor, asymmetry: float) -> None:
        self.values, self.residuals, self.vectors, self.asymmetry = values, residuals, vectors, asymmetry

    def add(self, values: Array, residuals: Array, vectors: Tensor, keep: int) -> None:
        values = np.concatenate([self.values, values])
        order = np.argsort(-values, kind="stable")[:keep]
        self.values = values[order]
        self.residuals = np.concatenate([self.residuals, residuals])[order]
        everything = torch.cat([self.vectors, vectors])
        self.vectors = everything[torch.from_numpy(order).to(everything.device)]


def _find_missed(
    operator: SymmetricOperator,
    found: _Found,
    goal: _Goal,
    seed: int,
    max_products: int,
    used: int,
    on_step: Callable[[int], None],
) -> tuple[int, bool]:
    """Look for eigenvalues that ``found`` lacks, until a bound shows that there are none; products, and whether so."""
    for run in range(1, operator.dimension + 1):
        deflated = torch.linalg.qr(found.vectors.T)[0].T.contiguous()
        if deflated.shape[0] == operator.dimension:
            return used, True
        if used >= max_products:
            return used, False
        krylov = Krylov(operator, seed, run=run, deflated=deflated)
        search = _Search(krylov, found, goal)
        used = _advance(krylov, search.decided, max_products, used, on_step)
        found.asymmetry = max(found.asymmetry, krylov.asymmetry)
        ritz, fresh = search.found_values()
        if not fresh and len(found.values) == goal.top:
            return used, search.nothing_above(ritz)
        if not fresh and not krylov.full:
            return used, False
        indices = fresh or [len(ritz.values) - 1]
        found.add(ritz.values[indices], ritz.residuals[indices], krylov.vectors(ritz, indices), goal.top)
    return used, False


class _Search:
    """A deflated process: is anything left above the last value found?"""

    def __init__(self, krylov: Krylov, found: _Found, goal: _Goal) -> None:
        self.krylov, self.goal = krylov, goal
        self.complete = len(found.values) == goal.top
        self.last = float(found.values[-1]) if self.complete else -np.inf
        self.allowance = goal.allowance(float(found.values[-1]), float(found.values[0]))

    def nothing_above(self, ritz: Ritz) -> bool:
        return self.krylov.bounds(ritz, self.goal.confidence)[0].beyond <= self.last + self.allowance

    def found_values(self) -> tuple[Ritz, list[int]]:
        """Settled Ritz values above the last one found."""
        ritz = self.krylov.ritz()
        settled = ritz.residuals <= np.maximum(self.allowance, 0)
        above = ritz.values > self.last + self.allowance
        return ritz, [int(index) for index in np.flatnonzero(settled & above)]

    def decided(self) -> bool:
        ritz, fresh = self.found_values()
        return (self.complete and self.nothing_above(ritz)) or (len(ritz.values) - 1 in fresh)


def _advance(
    krylov: Krylov, finished: Callable[[], bool], max_products: int, used: int, on_step: Callable[[int], None]
) -> int:
    """Step until ``finished``, exhausted or capped; returns all products."""
    while used < max_products and not krylov.full:
        krylov.step()
        used += 1
        on_step(used)
        if finished():
            break
    if not krylov.steps:
        raise NumericalError("no product is left for Lanczos", hint="raise max_products", code="too_few_products")
    return used
