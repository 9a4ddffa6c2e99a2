"""One end of a spectrum: the values found, how far the true ones can be, and when they are near enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quant_lens_engine.curvature.interval import Array, perturbed
from quant_lens_engine.curvature.krylov import Bounds, Process, Ritz

_SAME = 0.5
"""Squared length of a vector in the span of others from which it is one of them."""


class Goal(NamedTuple):
    """What is asked for: how many of each end, and how near."""

    top: int
    bottom: int
    tolerance: float
    inner_tolerance: float
    confidence: float

    def searched(self, krylov: Process) -> bool:
        """Whether a deflated process looks for what this one missed: where one start vector cannot see it (copies of an
        eigenvalue, a start that was given), or its bounds are old (a restart)."""
        return self.top > 1 or self.bottom > 1 or krylov.warm or krylov.restarts > 0

    def allowance(self, value: float, magnitude: float) -> float:
        """The error allowed for an extreme value; near zero a hundredth of the spectrum's magnitude stands in."""
        return self.tolerance * max(abs(value), 0.01 * magnitude)

    def inner_allowance(self, value: float, magnitude: float) -> float:
        """The error allowed for a value behind the extreme one."""
        return self.inner_tolerance * max(abs(value), 0.01 * magnitude)

    def reached(self, krylov: Process, ritz: Ritz) -> bool:
        """Whether the process has settled every value that is asked for.

        Its own bounds decide where no deflated process will look for what it missed; else residuals do, for then the
        bounds come from there.
        """
        if krylov.opening:
            return False
        magnitude = max(abs(float(ritz.values[0])), abs(float(ritz.values[-1])))
        bounds = krylov.bounds(ritz, self.confidence)
        for sign, wanted, bound in zip((1, -1), (self.top, self.bottom), bounds, strict=True):
            if not wanted:
                continue
            error = error_of(ritz, -1 if sign > 0 else 0, krylov.others) if self.searched(krylov) else bound.width
            if error > self.allowance(bound.value, magnitude):
                return False
            if not self._inner_settled(krylov, ritz, sign, wanted, magnitude):
                return False
        return True

    def _inner_settled(self, krylov: Process, ritz: Ritz, sign: int, wanted: int, magnitude: float) -> bool:
        if wanted == 1:
            return True
        count = len(ritz.values)
        if count <= wanted:
            return False
        indices = range(count - wanted, count) if sign > 0 else range(wanted)
        return all(
            error_of(ritz, index, krylov.others) <= self.inner_allowance(float(ritz.values[index]), magnitude)
            for index in indices
        )


def error_of(ritz: Ritz, index: int, others: Array | None = None) -> float:
    """min(residual, residual²/gap) of a Ritz value; the gap is to the nearest place where another eigenvalue can be.

    ``others`` are values that the process does not look for, but that are expected.
    """
    count = len(ritz.values)
    index %= count
    gaps = [
        abs(float(ritz.values[index] - ritz.values[i])) - float(ritz.residuals[i])
        for i in (index - 1, index + 1)
        if 0 <= i < count
    ]
    if others is not None:
        gaps += [float(gap) for gap in np.abs(others - ritz.values[index])]
    residual = float(ritz.residuals[index])
    return min(residual, residual**2 / max(min(gaps), 1e-300)) if gaps else residual


def images_of(process: Process, ritz: Ritz, indices: Sequence[int]) -> Tensor:
    """A y of Ritz vectors y, from what the process has multiplied already, ``(len(indices), dimension)``.

    Of a process that is deflated, the part outside of what it stays orthogonal to.
    """
    chosen = list(indices)
    mixing = torch.from_numpy(np.ascontiguousarray(ritz.coefficients[:, chosen].T)).to(process.basis)
    values = torch.from_numpy(ritz.values[chosen]).to(process.basis)
    outside = torch.stack([process.outside(coefficients) for coefficients in mixing])
    return values[:, None] * process.vectors(ritz, chosen) + outside


def rayleigh_ritz(rows: Tensor, images: Tensor) -> tuple[Array, Tensor, Tensor]:
    """The Ritz values, ascending, of A on the span of ``rows``, their unit vectors, and A times these.

    By Cauchy's theorem the i-th largest of them is at most the i-th largest eigenvalue of A. That holds in one space:
    values of two spaces side by side can each be above it.

    Args:
        rows: independent ``(k, dimension)``.
        images: A times each.
    """
    triangle = torch.linalg.cholesky(rows @ rows.T)
    basis = torch.linalg.solve_triangular(triangle, rows, upper=False)
    products = torch.linalg.solve_triangular(triangle, images, upper=False)
    inner = basis @ products.T
    values, mixing = torch.linalg.eigh((inner + inner.T) / 2)
    return values.cpu().numpy(), mixing.T @ basis, mixing.T @ products


class EndOfSpectrum:
    """The eigenvalues found at one end, the extreme one first.

    Attributes:
        sign: +1 for the largest, −1 for the smallest.
        wanted: how many were asked for.
        values: ``wanted`` of them, or the extreme one alone where none was asked for.
        residuals: ‖Av − θv‖ of each.
        vectors: unit, ``(k, dimension)``.
        extreme: the first value with its bound.
        bound: nothing that is not in ``values`` lies beyond this; ±∞ where no deflated process has looked.
    """

    def __init__(
        self, sign: int, wanted: int, values: list[float], residuals: list[float], vectors: Tensor, extreme: Bounds
    ) -> None:
        self.sign, self.wanted = sign, wanted
        self.values, self.residuals, self.vectors = values, residuals, vectors
        self.extreme = extreme
        self.bound = sign * math.inf
        self._images: Callable[[], Tensor] = lambda: vectors

    @classmethod
    def of(cls, krylov: Process, ritz: Ritz, sign: int, wanted: int, confidence: float) -> EndOfSpectrum:
        """What a process has found of that end."""
        bounds = krylov.bounds(ritz, confidence)
        end = cls(sign, wanted, [], [], krylov.basis[:0], bounds[0] if sign > 0 else bounds[1])
        end.read(krylov, ritz)
        return end

    def read(self, krylov: Process, ritz: Ritz) -> None:
        """Take the values of the first process as they are now."""
        order = np.arange(len(ritz.values))[:: -self.sign][: max(self.wanted, 1)]
        self.values = [float(value) for value in ritz.values[order]]
        self.residuals = [float(residual) for residual in ritz.residuals[order]]
        indices = [int(index) for index in order]
        self.vectors = krylov.vectors(ritz, indices)
        self._images = lambda: images_of(krylov, ritz, indices)
        self.extreme = Bounds(self.values[0], self.extreme.beyond)

    @property
    def complete(self) -> bool:
        """Whether there are as many values as were asked for."""
        return len(self.values) >= self.wanted

    def extreme_index(self, ritz: Ritz) -> int:
        """Which Ritz value is the outermost at this end."""
        return len(ritz.values) - 1 if self.sign > 0 else 0

    @property
    def images(self) -> Tensor:
        """A times each of ``vectors``, ``(k, dimension)``."""
        return self._images()

    def add(self, vectors: Tensor, images: Tensor) -> None:
        """Take vectors of a deflated process in, with A times each; the outermost values of all of them stay.

        One that the first process has found by now is not taken twice.
        """
        fresh = (vectors @ self.vectors.T).square().sum(1) < _SAME
        if not bool(fresh.any()):
            return
        values, rows, products = rayleigh_ritz(
            torch.cat([self.vectors, vectors[fresh]]), torch.cat([self.images, images[fresh]])
        )
        order = np.arange(len(values))[:: -self.sign][: max(self.wanted, 1)].copy()
        chosen = torch.from_numpy(order).to(rows.device)
        self.values, self.vectors = [float(value) for value in values[order]], rows[chosen]
        kept = products[chosen]
        self._images = lambda: kept
        exact = torch.from_numpy(values[order]).to(rows)
        self.residuals = torch.linalg.vector_norm(kept - exact[:, None] * self.vectors, dim=1).tolist()
        beyond = max(self.extreme.beyond, self.values[0], key=lambda value: self.sign * value)
        self.extreme = Bounds(self.values[0], beyond)

    def note_bound(self, bound: float) -> None:
        """A deflated process has shown that nothing else lies beyond ``bound``."""
        self.bound = bound
        narrower = min(self.extreme.beyond, self.beyond(0), key=lambda value: self.sign * value)
        self.extreme = Bounds(self.values[0], narrower)

    def reach(self, index: int) -> float:
        """How far the index-th eigenvalue can be from its Ritz value."""
        return abs(self.beyond(index) - self.values[index])

    def beyond(self, index: int) -> float:
        """The far end of the interval of the index-th value; its Ritz value is the near one (:func:`rayleigh_ritz`)."""
        if index == 0 and math.isinf(self.bound):
            return self.extreme.beyond
        return self.sign * self._reach(index, self.sign * self.bound)

    def _reach(self, index: int, bound: float) -> float:
        """The same for the upper end of ±A: the better of two ways to divide the space, behind this value or the last.

        Either way the values in front are perturbed by their own residuals; what is behind is bounded by the next
        value, perturbed in its turn, or by ``bound``.
        """
        values = [self.sign * value for value in self.values]
        squares = [residual**2 for residual in self.residuals]
        whole = perturbed(values[index], math.sqrt(math.fsum(squares)), bound)
        if index + 1 == len(values):
            return whole
        behind = perturbed(values[index + 1], math.sqrt(math.fsum(squares[index + 1 :])), bound)
        return min(whole, perturbed(values[index], math.sqrt(math.fsum(squares[: index + 1])), behind))
