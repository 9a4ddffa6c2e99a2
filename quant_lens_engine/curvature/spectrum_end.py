"""One end of a spectrum: the values found, how far the true ones can be, and when they are near enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quant_lens_engine.curvature.interval import perturbed
from quant_lens_engine.curvature.krylov import Bounds, Krylov, Ritz


class Goal(NamedTuple):
    """What is asked for: how many of each end, and how near."""

    top: int
    bottom: int
    tolerance: float
    inner_tolerance: float
    confidence: float

    def allowance(self, value: float, magnitude: float) -> float:
        """The error allowed for an extreme value; near zero a hundredth of the spectrum's magnitude stands in."""
        return self.tolerance * max(abs(value), 0.01 * magnitude)

    def inner_allowance(self, value: float, magnitude: float) -> float:
        """The error allowed for a value behind the extreme one."""
        return self.inner_tolerance * max(abs(value), 0.01 * magnitude)

    def reached(self, krylov: Krylov, ritz: Ritz) -> bool:
        """Whether the process has settled every value that is asked for."""
        magnitude = max(abs(float(ritz.values[0])), abs(float(ritz.values[-1])))
        bounds = krylov.bounds(ritz, self.confidence)
        for sign, wanted, bound in zip((1, -1), (self.top, self.bottom), bounds, strict=True):
            if not wanted:
                continue
            if krylov.restarts:  # its bounds are old: residuals decide, and a deflated process bounds what is beyond
                if error_of(ritz, -1 if sign > 0 else 0) > self.allowance(bound.value, magnitude):
                    return False
            elif bound.width > self.allowance(bound.value, magnitude):
                return False
            if not self._inner_settled(ritz, sign, wanted, magnitude):
                return False
        return True

    def _inner_settled(self, ritz: Ritz, sign: int, wanted: int, magnitude: float) -> bool:
        if wanted == 1:
            return True
        count = len(ritz.values)
        if count <= wanted:
            return False
        indices = range(count - wanted, count) if sign > 0 else range(wanted)
        return all(
            error_of(ritz, index) <= self.inner_allowance(float(ritz.values[index]), magnitude) for index in indices
        )


def error_of(ritz: Ritz, index: int) -> float:
    """min(residual, residual²/gap) of a Ritz value, with its gap to the neighbouring ones."""
    count = len(ritz.values)
    index %= count
    neighbours = [abs(float(ritz.values[index] - ritz.values[i])) for i in (index - 1, index + 1) if 0 <= i < count]
    gap, residual = max(min(neighbours, default=math.inf), 1e-300), float(ritz.residuals[index])
    return min(residual, residual**2 / gap)


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

    @classmethod
    def of(cls, krylov: Krylov, ritz: Ritz, sign: int, wanted: int, confidence: float) -> EndOfSpectrum:
        """What a process has found of that end."""
        order = np.arange(len(ritz.values))[::-sign][: max(wanted, 1)]
        bounds = krylov.bounds(ritz, confidence)
        return cls(
            sign,
            wanted,
            [float(value) for value in ritz.values[order]],
            [float(residual) for residual in ritz.residuals[order]],
            krylov.vectors(ritz, [int(index) for index in order]),
            bounds[0] if sign > 0 else bounds[1],
        )

    @property
    def complete(self) -> bool:
        """Whether there are as many values as were asked for."""
        return len(self.values) >= self.wanted

    def extreme_index(self, ritz: Ritz) -> int:
        """Which Ritz value is the outermost at this end."""
        return len(ritz.values) - 1 if self.sign > 0 else 0

    def add(self, krylov: Krylov, ritz: Ritz, indices: Sequence[int]) -> None:
        """Take values of a deflated process in; the outermost ones stay."""
        if not indices:
            return
        values = [*self.values, *(float(ritz.values[index]) for index in indices)]
        residuals = [*self.residuals, *(float(ritz.residuals[index]) for index in indices)]
        vectors = torch.cat([self.vectors, krylov.vectors(ritz, indices)])
        order = sorted(range(len(values)), key=lambda index: -self.sign * values[index])[: max(self.wanted, 1)]
        self.values, self.residuals = [values[i] for i in order], [residuals[i] for i in order]
        self.vectors = vectors[torch.tensor(order, device=vectors.device)]
        beyond = max(self.extreme.beyond, self.values[0], key=lambda value: self.sign * value)
        self.extreme = Bounds(self.values[0], beyond)

    def note_bound(self, bound: float) -> None:
        """A deflated process has shown that nothing else lies beyond ``bound``."""
        self.bound = bound
        beyond = self.beyond(0)
        narrower = min(self.extreme.beyond, beyond, key=lambda value: self.sign * value)
        self.extreme = Bounds(self.values[0], narrower)

    def beyond(self, index: int) -> float:
        """The far end of the interval of the index-th value; its Ritz value is the near one (Cauchy)."""
        if index == 0 and math.isinf(self.bound):
            return self.extreme.beyond
        together = math.sqrt(math.fsum(residual**2 for residual in self.residuals))
        return self.sign * perturbed(self.sign * self.values[index], together, self.sign * self.bound)
