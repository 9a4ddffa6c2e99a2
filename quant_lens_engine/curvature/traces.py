"""Traces of a symmetric operator and of parts of it, from products with random vectors and a Krylov basis.

With an orthonormal basis Q at hand, A Q = Q T + R and A = Q T Qᵀ + R Qᵀ + Q Rᵀ + B: all but B = (I − QQᵀ) A (I − QQᵀ)
is known without a product, and B has lost the large eigenvalues, and with them most of the variance of Hutchinson's
estimator E[zᵀBz] = Tr B (Hutchinson 1989; Meyer et al., Hutch++, 2021; with a Krylov basis: Chen and Hallman 2022,
arXiv:2205.01736). z ⊙ Bz estimates the diagonal, and its sums over a layer's parameters the trace of the layer's block.

Where A is a sum over groups of rows, probes of their own for each of them often have less variance at the same cost
(:mod:`~quant_lens_engine.curvature.row_groups`): with r_g = (I − QQᵀ) z_g, Σ_g r_g ⊙ A_g r_g estimates the diagonal of
A (I − QQᵀ), and that of A QQᵀ is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import norm
from scipy.stats import t as student
from torch import Tensor

from quant_lens_engine.curvature.krylov import Process

FEWEST_PROBES = 12
"""Before these a lucky spread could pass for a small error."""

_USUAL = 0.95

_ROUNDING = 1e-3
"""Length of a unit vector's part outside a space that counts as none: its square is lost from a trace."""

_COLUMNS = 2**20
"""Columns of the basis that are worked on at a time."""


class SampleMean:
    """A constant and the mean of independent samples.

    Example:
        >>> mean = SampleMean(1.0)
        >>> mean.samples += [1.0, 2.0, 3.0]
        >>> mean.value, round(mean.standard_error, 4)
        (3.0, 1.2674)
    """

    def __init__(self, known: float = 0.0) -> None:
        self.known = known
        self.samples: list[float] = []

    @property
    def value(self) -> float:
        """The estimate."""
        return self.known + (math.fsum(self.samples) / len(self.samples) if self.samples else 0.0)

    @property
    def standard_error(self) -> float:
        """Of the estimate, with Student's allowance for few samples, so that two of them hold it in 95 of 100 cases;
        infinite for a single sample, 0 where nothing is sampled."""
        count = len(self.samples)
        if count < 2:
            return math.inf if count else 0.0
        return self._plain_error() * student_factor(count, _USUAL) / float(norm.ppf((1 + _USUAL) / 2))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Student's interval."""
        count = len(self.samples)
        reach = self._plain_error() * student_factor(count, confidence) if count > 1 else math.inf if count else 0.0
        return self.value - reach, self.value + reach

    def _plain_error(self) -> float:
        count = len(self.samples)
        mean = math.fsum(self.samples) / count
        return math.sqrt(math.fsum((sample - mean) ** 2 for sample in self.samples) / (count - 1) / count)


def student_factor(samples: int, confidence: float) -> float:
    """How many standard errors of the mean of so many normal samples hold it at that confidence."""
    return math.inf if samples < 2 else float(student.ppf((1 + confidence) / 2, samples - 1))


def still_needed(mean: SampleMean, relative_error: float) -> int:
    """How many samples bring the standard error to ``relative_error`` of the value, by the spread so far; 0: none.

    Example:
        >>> mean = SampleMean()
        >>> still_needed(mean, 0.1)
        12
        >>> mean.samples += [0.0, 2.0] * 6
        >>> still_needed(mean, 0.1), still_needed(mean, 1.0)
        (126, 0)
    """
    count = len(mean.samples)
    if count < FEWEST_PROBES:
        return FEWEST_PROBES - count
    allowed = relative_error * abs(mean.value)
    if mean.standard_error <= allowed:
        return 0
    return max(1, math.ceil(count * (mean.standard_error / allowed) ** 2) - count) if allowed else count


class BlockTraces:
    """Tr A, Tr A², the trace of some blocks of A's diagonal, and Σ s A_ii, each from the same probes.

    From the first sweep with probes of each group of rows on, the traces are those of the sweeps alone. Tr A² stays
    with the probes that are the same for all rows, for it is made of products of groups with each other.

    Args:
        krylov: a process of A, finished.
        beyond: eigenpairs of A that the basis does not hold, orthonormal ``(k, dimension)`` and ``(k,)``: copies of an
            eigenvalue, which one process cannot see.
        blocks: the positions of each block in the flat vector, as slices.
        scales: s ``(dimension,)``; None: not wanted.
    """

    def __init__(
        self,
        krylov: Process,
        blocks: Sequence[Sequence[slice]] = (),
        scales: Tensor | None = None,
        beyond: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self._krylov, self._blocks, self._scales = krylov, blocks, scales
        none = krylov.basis[:0]
        self._vectors, self._values = (none, none[:, 0]) if beyond is None else beyond
        known = known_diagonal(krylov) + self._values @ self._vectors.square()
        self.whole = SampleMean(float(np.trace(krylov.projected)) + float(self._values.sum()))
        self._paired = self.whole  # the trace by the probes that Tr A² comes from
        squares = float(np.sum(krylov.projected**2)) + krylov.outside_squares + float(self._values.square().sum())
        self.squares = SampleMean(squares)
        self.blocks = [SampleMean(self._sum(known, block)) for block in blocks]
        self.scaled = SampleMean(0.0 if scales is None else float(torch.dot(scales, known)))
        self.exact = krylov.size == krylov.operator.dimension

    @property
    def probes(self) -> int:
        """How many have been added."""
        return len(self.whole.samples)

    @property
    def basis(self) -> Tensor:
        """What is known without a probe, ``beyond`` included, orthonormal ``(size, dimension)``."""
        return torch.cat([self._krylov.basis, self._vectors]) if len(self._vectors) else self._krylov.basis

    def holds(self, vectors: Tensor | None) -> bool:
        """Whether basis and ``beyond`` span these unit vectors: a probe orthogonal to them then lacks nothing."""
        if vectors is None or not len(vectors):
            return True
        outside = vectors
        for rows in (self._krylov.basis, self._vectors):
            outside = outside - (outside @ rows.T) @ rows
        return float(torch.linalg.vector_norm(outside, dim=1).max()) <= _ROUNDING

    def add(self, probe: Tensor, product: Tensor) -> None:
        """Take z and Az in, with E[zzᵀ] = I (up to what the basis spans)."""
        basis = self._krylov.basis
        coefficients = basis @ probe
        outside = product - self._krylov.outside(coefficients)
        projected = torch.from_numpy(np.ascontiguousarray(self._krylov.projected)).to(basis.device)
        rest = outside - basis.T @ (projected @ coefficients)  # A (I − QQᵀ) z
        shares = self._vectors @ probe
        self.squares.samples.append(float(rest.square().sum() - (self._values * shares).square().sum()))
        unknown = unknown_diagonal(self._krylov, probe, product) - probe * ((self._values * shares) @ self._vectors)
        self._take(unknown, [self.whole, *self.blocks, self.scaled])

    def add_sweep(self, products: Tensor) -> None:
        """Take Σ_g r_g ⊙ A_g r_g in, with r_g = (I − QQᵀ) z_g and independent z_g."""
        if self.whole is self._paired:
            known = known_diagonal(self._krylov) - self._krylov.outside_diagonal()
            known += self._values @ self._vectors.square()
            self.whole = SampleMean(self._paired.known)
            self.blocks = [SampleMean(self._sum(known, block)) for block in self._blocks]
            self.scaled = SampleMean(0.0 if self._scales is None else float(torch.dot(self._scales, known)))
        self._take(products, [self.whole, *self.blocks, self.scaled])

    def settle(self, diagonal: Tensor, squares: float) -> None:
        """The whole diagonal and Tr A² are known: nothing is estimated."""
        self.squares.known, self.squares.samples = squares, []
        for mean in (self.whole, *self.blocks, self.scaled):
            mean.known, mean.samples = 0.0, []
        means = [self.whole, *self.blocks, self.scaled]
        self._take(diagonal, means)
        for mean in means:
            mean.known, mean.samples = mean.samples[0], []
        self.exact = True

    def effective_rank(self) -> SampleMean:
        """(Tr A)² / Tr A², by the jackknife over probes: the plain ratio is biased for few of them."""
        trace, squares, found = self._paired, self.squares, SampleMean()
        if not squares.value:
            return found
        ratio = trace.value**2 / squares.value
        count = len(squares.samples)
        if count < 2:
            found.known = ratio
            return found
        totals = math.fsum(trace.samples), math.fsum(squares.samples)
        for first, second in zip(trace.samples, squares.samples, strict=True):
            without = [
                mean.known + (total - sample) / (count - 1)
                for mean, total, sample in zip((trace, squares), totals, (first, second), strict=True)
            ]
            found.samples.append(count * ratio - (count - 1) * without[0] ** 2 / without[1])
        return found

    def _take(self, values: Tensor, means: Sequence[SampleMean]) -> None:
        means[0].samples.append(float(values.sum()))
        for mean, block in zip(means[1:-1], self._blocks, strict=True):
            mean.samples.append(self._sum(values, block))
        means[-1].samples.append(0.0 if self._scales is None else float(torch.dot(self._scales, values)))

    @staticmethod
    def _sum(values: Tensor, block: Sequence[slice]) -> float:
        return math.fsum(float(values[part].sum()) for part in block)


def known_diagonal(krylov: Process) -> Tensor:
    """The diagonal of Q T Qᵀ + R Qᵀ + Q Rᵀ, ``(dimension,)``."""
    basis = krylov.basis
    projected = torch.from_numpy(np.ascontiguousarray(krylov.projected)).to(basis.device)
    columns = range(0, krylov.operator.dimension, _COLUMNS)
    parts = [basis[:, start : start + _COLUMNS] for start in columns]
    diagonal = torch.cat([((projected @ part) * part).sum(0) for part in parts])
    return diagonal + 2 * krylov.outside_diagonal()


def unknown_diagonal(krylov: Process, probe: Tensor, product: Tensor) -> Tensor:
    """z ⊙ B z from z and A z: with E[zzᵀ] = I an unbiased estimate of the diagonal of B, ``(dimension,)``."""
    basis = krylov.basis
    return probe * (product - krylov.outside(basis @ probe) - basis.T @ (basis @ product))
