"""A row of a plane from fewer points: what a curve through the measured ones foretells need not be measured.

A row is halved until its midpoints are as they were foretold. Each of them was predicted before it was measured, so the
error of the curve is known where it was last tested; one point a row is measured at the end, and never enters it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

FEWEST = 13
"""A shorter row is measured in full."""

SAFETY = 3.0
"""The error that is stated, in largest misses of the checks: between them a curve strays farther than at them. On
six smooth planes of two examples and a ResNet-20 it strayed up to 2.3 times as far
(``benchmarks/results/landscape-adaptive.md``)."""

_SURE = 0.5
"""A part is left alone where its midpoint and those beside it missed by no more than this share of what is allowed."""

_PARTS = 4
"""That a row is divided into at first."""

_WIDEST = 10
"""Measured columns are no further apart than this part of the row, or one column: what is narrower can be missed."""


@dataclass
class Row:
    """A row of which some losses are estimated.

    Attributes:
        losses: by column; not finite where the loss is not.
        measured: the columns that were measured.
        checks: measured columns that were foretold within tolerance / :data:`SAFETY`.
        error: :data:`SAFETY` times the largest miss among these, as a share of the loss there (of ``scale`` where it is
            below): what is stated of the estimated losses.
    """

    losses: list[float]
    measured: set[int]
    checks: int = 0
    error: float = 0.0


def adaptive_row(measure: Callable[[int], float], columns: int, *, tolerance: float, scale: float) -> Row:
    """Measure as much of a row as a cubic spline needs to foretell the rest.

    Losses are interpolated as asinh(L / scale): as logarithms where they are large, as they are where they are small.
    Where a measured loss is not finite the row is measured in full, for nothing foretells where that ends. What is
    narrower than the distance of measured columns, a peak or a gap, can be missed: the error is that of the checks.

    Args:
        measure: the loss by column; asked for each column once at most.
        columns: how many; odd.
        tolerance: largest error that may be stated, a share of the loss there.
        scale: a loss below it counts as it.

    Example:
        >>> row = adaptive_row(lambda column: 1 + (column / 20 - 1) ** 2, 41, tolerance=0.03, scale=0.5)
        >>> len(row.measured), row.checks, row.error < 0.03, abs(row.losses[3] - (1 + 0.85**2)) < 0.03
        (18, 13, True, True)
    """
    if columns < FEWEST:
        return Row([measure(column) for column in range(columns)], set(range(columns)))
    return _Refinement(measure, columns, tolerance, scale).row()


@dataclass
class _Refinement:
    """One row in the making."""

    measure: Callable[[int], float]
    columns: int
    tolerance: float
    scale: float
    known: dict[int, float] = field(default_factory=dict)
    """What the curve goes through."""
    checks: int = 0
    error: float = 0.0

    def row(self) -> Row:
        starts = [round(part * (self.columns - 1) / _PARTS) for part in range(_PARTS + 1)]
        self.known = {column: self.measure(column) for column in starts}
        intervals = list(itertools.pairwise(starts))
        while True:
            self._halve(intervals)
            if not self._is_finite():
                return self._in_full()
            last = self._least_known()
            if last is None:
                return self._in_full()
            predicted, loss = self._curve([last])[0], self.measure(last)
            if self._foretold(predicted, loss):
                return self._row_with(last, loss)
            before, after = self._neighbours(last)
            self.known[last] = loss
            intervals = [(before, last), (last, after)]

    def _halve(self, intervals: list[tuple[int, int]]) -> None:
        """Until the midpoints are as the curve foretold, or a loss is not finite."""
        while intervals and self._is_finite():
            triples = [(a, (a + b) // 2, b) for a, b in intervals if b - a > 1]
            predicted = self._curve([middle for _, middle, _ in triples])
            self.known |= {middle: self.measure(middle) for _, middle, _ in triples}
            missed = [
                (a, middle, b)
                for (a, middle, b), loss in zip(triples, predicted, strict=True)
                if not self._foretold(loss, self.known[middle])
            ]
            doubtful = {half for a, middle, b in missed for half in ((a, middle), (middle, b))}
            ends = {end for a, _, b in missed for end in (a, b)}
            beside = {half for a, middle, b in triples for half in ((a, middle), (middle, b)) if {*half} & ends}
            wide = {half for a, middle, b in triples for half in ((a, middle), (middle, b)) if self._is_wide(*half)}
            intervals = sorted(doubtful | beside | wide)

    def _is_wide(self, first: int, last: int) -> bool:
        return last - first > max(1, (self.columns - 1) // _WIDEST)

    def _foretold(self, predicted: float, loss: float) -> bool:
        """Well enough to leave it at that. A worse miss, of what is allowed, counts all the same."""
        miss, allowed = abs(float(predicted) - loss) / max(abs(loss), self.scale), self.tolerance / SAFETY
        if not miss <= allowed:
            return False
        self.checks, self.error = self.checks + 1, max(self.error, SAFETY * miss)
        return miss <= _SURE * allowed

    def _curve(self, columns: Sequence[int]) -> NDArray[np.float64]:
        """The losses that are foretold."""
        nodes = sorted(self.known)
        heights = np.arcsinh(np.array([self.known[node] for node in nodes]) / self.scale)
        found: NDArray[np.float64] = self.scale * np.sinh(CubicSpline(nodes, heights)(np.array(columns, dtype=float)))
        return found

    def _is_finite(self) -> bool:
        return all(map(math.isfinite, self.known.values()))

    def _least_known(self) -> int | None:
        """The column that is farthest from the measured ones, where the loss changes most among these."""

        def doubt(column: int) -> tuple[int, float, int]:
            before, after = self._neighbours(column)
            change = abs(math.asinh(self.known[after] / self.scale) - math.asinh(self.known[before] / self.scale))
            return min(column - before, after - column), change, -column

        return max((column for column in range(self.columns) if column not in self.known), key=doubt, default=None)

    def _neighbours(self, column: int) -> tuple[int, int]:
        return max(c for c in self.known if c < column), min(c for c in self.known if c > column)

    def _row_with(self, held: int, loss: float) -> Row:
        losses = dict(enumerate(map(float, self._curve(range(self.columns))))) | self.known | {held: loss}
        return Row([losses[column] for column in range(self.columns)], {*self.known, held}, self.checks, self.error)

    def _in_full(self) -> Row:
        """Nothing is estimated, and what was foretold is of no use."""
        losses = [self.known[c] if c in self.known else self.measure(c) for c in range(self.columns)]
        return Row(losses, set(range(self.columns)))
