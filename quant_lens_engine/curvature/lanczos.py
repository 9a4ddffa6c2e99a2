"""Both ends of a symmetric operator's spectrum, from products with vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quant_lens_engine.curvature.davidson import Davidson, Start
from quant_lens_engine.curvature.interval import Array
from quant_lens_engine.curvature.krylov import Bounds, Krylov, Process, Ritz, SymmetricOperator, product_error
from quant_lens_engine.curvature.spectrum_end import EndOfSpectrum, Goal, images_of, rayleigh_ritz
from quant_lens_engine.curvature.symmetric_operator import rounding_error
from quant_lens_engine.errors import NumericalError
from quant_lens_engine.schema.curvature import ConvergenceStep

_DEPENDENT = 1e-6
"""Singular value of a stack of unit vectors, to the largest, below which one of them is spanned by the others."""

_OUTSIDE = 0.99
"""Length of a unit vector's part outside a basis that makes it one that the process cannot see."""


class Spectrum(NamedTuple):
    """The ends of a spectrum.

    Attributes:
        top: the largest eigenvalues, descending, with multiplicity.
        bottom: the smallest ones, ascending.
        first: the process on the whole space, whose basis other estimates can use.
        searches: Lanczos processes that were deflated by what had been found.
        finders: those among them that found an eigenvalue: what they found depends on where they started.
        history: what the first process knew after each product.
        asymmetry: error of the products, as far as it shows in them.
        rounding: the same, and what :func:`rounding_error` has shown.
        ends_settled: the intervals of both extreme eigenvalues are within tolerance.
        converged: so are the others that were asked for, and nothing beyond them was missed.
        products: all of them.
    """

    top: EndOfSpectrum
    bottom: EndOfSpectrum
    first: Process
    searches: list[Krylov]
    finders: list[Krylov]
    history: list[ConvergenceStep]
    asymmetry: float
    rounding: float
    ends_settled: bool
    converged: bool
    products: int

    @property
    def highest(self) -> Bounds:
        """The largest eigenvalue with its bound."""
        return self.top.extreme

    @property
    def lowest(self) -> Bounds:
        """The smallest one with its bound."""
        return self.bottom.extreme

    def beyond_first(self) -> tuple[Tensor, Tensor]:
        """The eigenpairs that the first process cannot see, for they are copies: ``(k, dimension)`` and ``(k,)``."""
        vectors = torch.cat([self.top.vectors, self.bottom.vectors])
        values = torch.tensor([*self.top.values, *self.bottom.values], dtype=torch.float64, device=vectors.device)
        basis = self.first.basis
        outside = vectors - (vectors @ basis.T) @ basis
        # copies of one eigenvalue are mixed at will: what counts is which of their mixtures lie outside
        squares, mixing = torch.linalg.eigh(outside @ outside.T)
        chosen = mixing[:, squares > _OUTSIDE**2].T
        return orthonormal(chosen @ outside), chosen.square() @ values


def extreme_spectrum(
    operator: SymmetricOperator,
    *,
    top: int = 1,
    bottom: int = 1,
    tolerance: float = 1e-4,
    inner_tolerance: float | None = None,
    max_products: int = 100,
    confidence: float = 0.95,
    seed: int = 0,
    start: Start | None = None,
    rounding: bool = True,
    on_step: Callable[[int], None] = lambda _: None,
) -> Spectrum:
    """The largest eigenvalues and the smallest ones.

    For one value of each end the process stops when the interval from the Ritz value to its bound is narrower than the
    tolerance (:func:`~quant_lens_engine.curvature.interval.upper_bound`), not when a residual is small: a small
    residual may belong to an inner eigenvalue. For several, and after a warm start, it stops by min(residual,
    residual²/gap), and further processes from random starts, deflated against what was found, run until their bound
    shows that nothing beyond was missed, a copy of an eigenvalue included: one start vector sees each of them once.

    Args:
        operator: symmetric.
        top: how many of the largest.
        bottom: how many of the smallest; 0: the lower end need not converge.
        tolerance: of the extreme eigenvalues, relative to them, or to a hundredth of the largest magnitude where that
            is more.
        inner_tolerance: of those behind the extreme ones; None: the same.
        max_products: cap on products.
        confidence: of the bounds.
        seed: of the start vectors.
        start: what is known of a near operator: then not Lanczos but
            :class:`~quant_lens_engine.curvature.davidson.Davidson` is the first process.
        rounding: whether the rounding of the products is measured, by one more product; without it intervals rest on
            their asymmetry alone.
        on_step: called with the number of products after each.
    """
    top, bottom = min(top, operator.dimension), min(bottom, operator.dimension)
    goal = Goal(top, bottom, tolerance, inner_tolerance or tolerance, confidence)
    keep = (max(bottom, 1), top)
    krylov: Process = Krylov(operator, seed, keep=keep) if start is None else Davidson(operator, start, keep, seed)
    history: list[ConvergenceStep] = []

    def finished() -> bool:
        ritz = krylov.ritz()
        history.append(_step(krylov, ritz, confidence))
        return goal.reached(krylov, ritz)

    used = _advance(krylov, finished, max_products, 0, on_step)
    ritz = krylov.ritz()
    ends = [EndOfSpectrum.of(krylov, ritz, sign, count, confidence) for sign, count in ((1, top), (-1, bottom))]
    found = _Found(goal, ends, krylov)
    settled = krylov.exhausted or goal.reached(krylov, ritz)
    if settled and goal.searched(krylov):
        used, settled = found.find_missed(operator, seed, max_products, used, on_step)
        if settled and not found.narrow:
            used = _advance(krylov, found.refine, max_products, used, on_step)
        settled = settled and found.narrow
    wanted = [end for end in ends if end.wanted]
    error = max(found.asymmetry, found.rounding() if rounding else 0.0)
    exact = error <= goal.allowance(ends[0].values[0], found.magnitude)
    return Spectrum(
        top=ends[0],
        bottom=ends[1],
        first=krylov,
        searches=found.searches,
        finders=found.finders,
        history=history,
        asymmetry=found.asymmetry,
        rounding=error,
        ends_settled=exact
        and all(end.extreme.width <= goal.allowance(end.values[0], found.magnitude) for end in wanted),
        converged=settled and exact,
        products=used,
    )


def _step(krylov: Process, ritz: Ritz, confidence: float) -> ConvergenceStep:
    highest, lowest = krylov.bounds(ritz, confidence)
    return ConvergenceStep(
        products=krylov.products,
        highest=highest.value,
        highest_bound=highest.beyond,
        highest_residual=float(ritz.residuals[-1]),
        lowest=lowest.value,
        lowest_bound=lowest.beyond,
        lowest_residual=float(ritz.residuals[0]),
    )


class _Found:
    """What is known of both ends, and the search for what it lacks."""

    def __init__(self, goal: Goal, ends: list[EndOfSpectrum], first: Process) -> None:
        self.goal, self.ends, self.first = goal, ends, first
        self.searches: list[Krylov] = []
        self.finders: list[Krylov] = []
        self._added: list[tuple[EndOfSpectrum, Tensor, Tensor]] = []

    @property
    def asymmetry(self) -> float:
        known = product_error(self.first.operator)
        return max(known, *(process.asymmetry for process in (self.first, *self.searches)))

    def rounding(self) -> float:
        """Error of the products with the outermost vector."""
        outer = max((end for end in self.ends if end.wanted), key=lambda end: abs(end.values[0]))
        return rounding_error(self.first.operator, outer.vectors[0], outer.images[0])

    @property
    def magnitude(self) -> float:
        return max(abs(value) for end in self.ends for value in [end.extreme.value, *end.values])

    def find_missed(
        self, operator: SymmetricOperator, seed: int, max_products: int, used: int, on_step: Callable[[int], None]
    ) -> tuple[int, bool]:
        """Run deflated processes until bounds show that nothing is missing; products so far, and whether they do."""
        for run in range(1, operator.dimension + 1):
            asked = [end for end in self.ends if end.wanted]  # of the other end nothing has converged
            values, deflated, images = _pairs_of_span(
                torch.cat([end.vectors for end in asked]), torch.cat([end.images for end in asked])
            )
            if deflated.shape[0] == operator.dimension:
                for end in self.ends:
                    end.note_bound(-end.sign * math.inf)
                return used, True
            if used >= max_products:
                return used, False
            krylov = Krylov(operator, seed, run=run, deflated=deflated, known=values)
            used = _advance(krylov, lambda process=krylov: self._decided(process), max_products, used, on_step)  # type: ignore[misc]
            self.searches.append(krylov)
            ritz = krylov.ritz()
            fresh = [self._missed(ritz, end) for end in self.ends]
            if not any(fresh) and all(end.complete for end in self.ends):
                self._note_bounds(krylov, ritz)
                return used, all(self._nothing_beyond(end, bound) for end, bound in self._bounds(krylov, ritz))
            if not any(fresh) and not krylov.full:
                return used, False
            self._take(krylov, ritz, fresh, images)
        return used, False

    def _take(self, krylov: Krylov, ritz: Ritz, fresh: Sequence[list[int]], images: Tensor) -> None:
        """Add what a deflated process has found, or its outermost vector where an end lacks one.

        Inside of what was deflated, A y is known by symmetry: zᵀAy = (Az)ᵀy; ``images`` are A times each of it.
        """
        assert krylov.deflated is not None
        for end, indices in zip(self.ends, fresh, strict=True):
            taken = indices or ([] if end.complete else [end.extreme_index(ritz)])
            if not taken:
                continue
            vectors = krylov.vectors(ritz, taken)
            inside = (images @ vectors.T).T @ krylov.deflated
            found = vectors, images_of(krylov, ritz, taken) + inside
            end.add(*found)
            self._added.append((end, *found))
            self.finders.append(krylov)

    @property
    def narrow(self) -> bool:
        """Whether the intervals of what was asked for are: of all of the largest, of the first of the smallest."""
        for end in self.ends:
            count = end.wanted if end.sign > 0 else min(end.wanted, 1)
            for index, value in enumerate(end.values[:count]):
                allowance = self.goal.inner_allowance if index else self.goal.allowance
                if end.reach(index) > allowance(value, self.magnitude):
                    return False
        return True

    def refine(self) -> bool:
        """Read the first process again, after more steps; whether it is enough."""
        ritz = self.first.ritz()
        for end in self.ends:
            end.read(self.first, ritz)
        for end, vectors, images in self._added:
            end.add(vectors, images)
        for end in self.ends:
            end.note_bound(end.bound)
        return self.narrow

    def _decided(self, krylov: Krylov) -> bool:
        ritz = krylov.ritz()
        if any(end.extreme_index(ritz) in self._missed(ritz, end) for end in self.ends):
            return True
        complete = all(end.complete for end in self.ends)
        return complete and all(self._nothing_beyond(end, bound) for end, bound in self._bounds(krylov, ritz))

    def _missed(self, ritz: Ritz, end: EndOfSpectrum) -> list[int]:
        """Settled Ritz values beyond the last one that is known of this end."""
        if not end.wanted:
            return []
        last = end.sign * end.values[-1] if end.complete else -math.inf
        slack = self.goal.inner_allowance(end.values[-1], self.magnitude)
        settled = ritz.residuals <= slack
        return [int(index) for index in np.flatnonzero(settled & (end.sign * ritz.values > last + slack))]

    def _bounds(self, krylov: Krylov, ritz: Ritz) -> list[tuple[EndOfSpectrum, float]]:
        bounds = krylov.bounds(ritz, self.goal.confidence)
        return [(end, bound.beyond) for end, bound in zip(self.ends, bounds, strict=True) if end.wanted]

    def _nothing_beyond(self, end: EndOfSpectrum, bound: float) -> bool:
        """Of the largest, all that were asked for; of the smallest, which lie close together, the first one."""
        first, last = end.values[0], end.values[-1]
        if end.sign < 0:
            return bound >= first - self.goal.allowance(first, self.magnitude) / 2
        return bound <= last + self.goal.inner_allowance(last, self.magnitude) / 2

    def _note_bounds(self, krylov: Krylov, ritz: Ritz) -> None:
        for end, bound in self._bounds(krylov, ritz):
            end.note_bound(bound)


def _pairs_of_span(vectors: Tensor, images: Tensor) -> tuple[Array, Tensor, Tensor]:
    """The Ritz values on the span of the rows, their unit vectors, and A times these, from A times the rows.

    Where both ends together were asked for more values than there are different ones, the same vectors stand in both.
    """
    mixing, lengths, basis = torch.linalg.svd(vectors, full_matrices=False)
    held = lengths > _DEPENDENT * lengths.max()
    return rayleigh_ritz(basis[held], (mixing[:, held] / lengths[held]).T @ images)


def orthonormal(vectors: Tensor) -> Tensor:
    """An orthonormal basis ``(k, dimension)`` of the rows' span."""
    basis: Tensor = torch.linalg.qr(vectors.T)[0].T.contiguous()
    return basis


def _advance(
    krylov: Process, finished: Callable[[], bool], max_products: int, used: int, on_step: Callable[[int], None]
) -> int:
    """Step until ``finished``, exhausted or capped; returns all products."""
    while used < max_products and not krylov.full:
        krylov.step()
        used += 1
        on_step(used)
        if finished():
            break
    if not krylov.products:
        raise NumericalError("no product is left for Lanczos", hint="raise max_products", code="too_few_products")
    return used
