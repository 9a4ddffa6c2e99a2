"""Traces of a symmetric operator and of parts of it, from products with random vectors and a Krylov basis.

With an orthonormal basis Q at hand, A Q = Q T + R and A = Q T Qᵀ + R Qᵀ + Q Rᵀ + B: all but B = (I − QQᵀ) A (I − QQᵀ)
is known without a product, and B has lost the large eigenvalues, and with them most of the variance of Hutchinson's
estimator E[zᵀBz] = Tr B (Hutchinson 1989; Meyer et al., Hutch++, 2021; with a Krylov basis: Chen and Hallman 2022,
arXiv:2205.01736). z ⊙ Bz estimates the diagonal, and its sums over a layer's parameters the trace of the layer's block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm
from scipy.stats import t as student
from torch import Tensor

from quant_lens_engine.curvature.krylov import Krylov, Process, SymmetricOperator
from quant_lens_engine.objective.randomness import rademacher

FEWEST_PROBES = 12
"""Before these a lucky spread could pass for a small error."""

STEPS_PER_PROBE = 2
"""Lanczos products for each probe of a trace: on the spectra that were tried two thirds of them were best spent so."""

_USUAL = 0.95

_COLUMNS = 2**20
"""Columns of the basis that are worked on at a time."""


class Trace(NamedTuple):
    """A trace, its standard error over probes (0 where it is exact), and what it cost."""

    value: float
    standard_error: float
    probes: int
    products: int


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


class BlockTraces:
    """Tr A, Tr A², the trace of some blocks of A's diagonal, and Σ s A_ii, each from the same probes.

    Args:
        krylov: a process of A, finished.
        blocks: the positions of each block in the flat vector, as slices.
        scales: s ``(dimension,)``; None: not wanted.
    """

    def __init__(self, krylov: Process, blocks: Sequence[Sequence[slice]] = (), scales: Tensor | None = None) -> None:
        self._krylov, self._blocks, self._scales = krylov, blocks, scales
        known = known_diagonal(krylov)
        self.whole = SampleMean(float(np.trace(krylov.projected)))
        self.squares = SampleMean(float(np.sum(krylov.projected**2)) + krylov.outside_squares)
        self.blocks = [SampleMean(self._sum(known, block)) for block in blocks]
        self.scaled = SampleMean(0.0 if scales is None else float(torch.dot(scales, known)))
        self.exact = krylov.size == krylov.operator.dimension

    @property
    def probes(self) -> int:
        """How many have been added."""
        return len(self.whole.samples)

    def add(self, probe: Tensor, product: Tensor) -> None:
        """Take z and Az in, with E[zzᵀ] = I (up to what the basis spans)."""
        basis = self._krylov.basis
        coefficients = basis @ probe
        outside = product - self._krylov.outside(coefficients)
        projected = torch.from_numpy(np.ascontiguousarray(self._krylov.projected)).to(basis.device)
        rest = outside - basis.T @ (projected @ coefficients)  # A (I − QQᵀ) z
        self.squares.samples.append(float(rest.square().sum()))
        means = [self.whole, *self.blocks, self.scaled]
        self._take(unknown_diagonal(self._krylov, probe, product), means)

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
        trace, squares, found = self.whole, self.squares, SampleMean()
        if not squares.value:
            return found
        ratio = trace.value**2 / squares.value
        count = self.probes
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


def krylov_trace(
    operator: SymmetricOperator,
    *,
    relative_error: float = 0.01,
    max_products: int = 2000,
    seed: int = 0,
    on_product: Callable[[int], None] = lambda _: None,
) -> Trace:
    """Tr A until its standard error is ``relative_error`` of it, exact where that is no dearer.

    The basis and the probes grow together, two products for the one and one for the other. A probe's products are
    kept, so that it is read anew through each larger basis without another product. Probes do not depend on the basis:
    the estimate is unbiased but for the stopping.

    Args:
        operator: symmetric.
        relative_error: of the standard error to the trace.
        max_products: cap; a trace near zero never reaches a relative error.
        seed: of start vector and probes; probe i is the same for every operator.
        on_product: called with the number of products after each.

    Example:
        >>> from quant_lens_engine.curvature.dense import DenseOperator
        >>> round(krylov_trace(DenseOperator(torch.diag(torch.arange(20.0)))).value, 6)
        190.0
    """
    krylov = Krylov(operator, seed)
    probes: list[_KeptProbe] = []
    small = operator.dimension <= FEWEST_PROBES * (1 + STEPS_PER_PROBE)
    while True:
        for _ in range(operator.dimension if small else STEPS_PER_PROBE):
            room = small or krylov.size + 2 * len(probes) < krylov.limit - 2
            if room and not krylov.full and krylov.products < max_products:
                krylov.step()
                on_product(krylov.products + len(probes))
        known = float(np.trace(krylov.projected))
        if krylov.size == operator.dimension:
            return Trace(known, 0.0, len(probes), krylov.products + len(probes))
        probes.append(_KeptProbe(operator, rademacher(operator.dimension, seed, "probe", len(probes))))
        on_product(krylov.products + len(probes))
        mean = SampleMean(known)
        mean.samples = [probe.seen_through(krylov) for probe in probes]
        count, error, products = len(probes), mean.standard_error, krylov.products + len(probes)
        enough = count >= FEWEST_PROBES and error <= relative_error * abs(mean.value)
        if enough or products >= max_products:
            return Trace(mean.value, error, count, products)


class _KeptProbe:
    """z and Az, and their coefficients in a basis that grows."""

    def __init__(self, operator: SymmetricOperator, probe: Tensor) -> None:
        self._probe = probe.to(operator.device)
        self._product = operator.matvec(self._probe)
        self._raw = float(torch.dot(self._probe, self._product))
        self._coefficients = np.zeros((2, 0))

    def seen_through(self, krylov: Krylov) -> float:
        """zᵀBz = zᵀAz − 2 (Qᵀz)·(QᵀAz) + (Qᵀz)ᵀ T (Qᵀz)."""
        have = self._coefficients.shape[1]
        if krylov.size > have:
            added = krylov.basis[have:] @ torch.stack([self._probe, self._product], 1)
            self._coefficients = np.concatenate([self._coefficients, added.T.cpu().numpy()], 1)
        probe, product = self._coefficients
        return float(self._raw - 2 * probe @ product + probe @ krylov.projected @ probe)
