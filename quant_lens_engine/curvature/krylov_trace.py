"""The trace by itself: a Krylov basis and probes that grow by turns, or a basis and probes of each term of a sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quant_lens_engine.curvature.arguments import check_arguments
from quant_lens_engine.curvature.basis_room import most_vectors
from quant_lens_engine.curvature.interval import Array
from quant_lens_engine.curvature.krylov import TOGETHER, Krylov, SymmetricOperator
from quant_lens_engine.curvature.probe_kind import PILOT, apart_pays, can_choose, spreads
from quant_lens_engine.curvature.row_groups import SumOperator, each_sweep
from quant_lens_engine.curvature.traces import FEWEST_PROBES, SampleMean, still_needed
from quant_lens_engine.objective.randomness import rademacher

_FIRST_STEPS = 8
_LEAST_PROBES = 2
"""Fewer have no spread: where the cap is short, the basis leaves room for these."""
_STEPS_PER_PROBE = 0.75
"""A Lanczos step lowers the variance of every probe, a probe that of their mean. On the spectra that were tried, steep
and flat ones, this was within a tenth of the best division; one that follows the probes' own spread saves little more,
and stops where chance has made that spread small."""

_STEPS_FOR_SUMS = 12
"""Before the choice of probes. Where each term has its own, a larger basis takes less of their variance away, for it is
partly that of directions in which the terms differ: so from here on it grows slowly."""

_STEPS_PER_SWEEP = 0.25
_MORE_SWEEPS = 2
"""Times those so far, at most, before the basis grows again: between basis and sweeps graphs are built anew."""


class Trace(NamedTuple):
    """A trace, its standard error over probes (0 where it is exact, infinite for one probe), and what it cost."""

    value: float
    standard_error: float
    probes: int
    products: int


def krylov_trace(
    operator: SymmetricOperator,
    *,
    relative_error: float = 0.01,
    max_products: int = 2000,
    seed: int = 0,
    on_product: Callable[[int], None] = lambda _: None,
) -> Trace:
    """Tr A until its standard error is ``relative_error`` of it, exact where that is no dearer.

    The variance of the estimate is that of a probe, which falls as the basis grows, over the number of probes. The
    product of a probe is kept, so that it is read anew through each larger basis without another one. Probes do not
    depend on the basis: the estimate is unbiased but for the choice of where to stop. Of an operator that is a sum each
    term gets independent probes, where a few products, used for nothing else, show that fewer of these are needed.

    Args:
        operator: symmetric.
        relative_error: of the standard error to the trace.
        max_products: cap; a trace near zero never reaches a relative error. Of a single one the standard error is
            infinite, unless that is the whole trace.
        seed: of start vector and probes; probe i is the same for every operator.
        on_product: called with the number of products after each.

    Raises:
        InputError: ``bad_argument``: one of them is out of its range.

    Example:
        >>> from quant_lens_engine.curvature.dense import DenseOperator
        >>> round(krylov_trace(DenseOperator(torch.diag(torch.arange(20.0)))).value, 6)
        190.0
    """
    check_arguments(relative_error=relative_error, max_products=max_products)
    krylov = Krylov(operator, seed)
    small = operator.dimension <= min(3 * FEWEST_PROBES, max_products)
    pilot = 0
    if not small and isinstance(operator, SumOperator) and can_choose(operator, max_products - _STEPS_FOR_SUMS):
        while not krylov.full and krylov.size < min(_STEPS_FOR_SUMS, krylov.limit):
            krylov.step()
            on_product(krylov.products)
        if krylov.size < operator.dimension:
            pilot = PILOT
            found = spreads(operator, krylov.basis, float(np.trace(krylov.projected)), seed)
            most, exact = max_products - krylov.products - pilot, operator.dimension - krylov.size
            on_product(krylov.products + pilot)
            if apart_pays(found, relative_error=relative_error, most=most, exact=exact):
                return _by_terms(operator, krylov, relative_error, max_products, seed, on_product)
    probes, mean = _KeptProbes(operator), SampleMean()
    while True:
        reserved = pilot + (0 if small else max(probes.count, _LEAST_PROBES))
        room = not krylov.full and krylov.products + reserved < max_products
        wanted = _FIRST_STEPS + _STEPS_PER_PROBE * probes.count
        finish = small or (probes.count >= FEWEST_PROBES and still_needed(mean, relative_error) > _left(krylov))
        if room and (finish or krylov.size < wanted) and (small or probes.fit_beside(krylov)):
            krylov.step()
        else:
            probes.add(rademacher(operator.dimension, seed, "probe", probes.count), krylov)
        products = krylov.products + pilot + probes.count
        on_product(products)
        mean = SampleMean(float(np.trace(krylov.projected)))
        if krylov.size == operator.dimension:
            return Trace(mean.value, 0.0, probes.count, products)
        if not probes.count:
            continue
        mean.samples = probes.seen_through(krylov)
        enough = probes.count >= FEWEST_PROBES and mean.standard_error <= relative_error * abs(mean.value)
        if enough or products >= max_products:
            return Trace(mean.value, mean.standard_error, probes.count, products)


def _left(krylov: Krylov) -> int:
    """Products that complete the basis, so that the trace is exact."""
    return krylov.free_dimension - krylov.size


def _by_terms(
    operator: SumOperator,
    krylov: Krylov,
    relative_error: float,
    max_products: int,
    seed: int,
    on_product: Callable[[int], None],
) -> Trace:
    """Sweeps over the terms, in rounds, behind a basis that grows between them.

    All sweeps count alike: the spread of independent samples of one mean gives its error, whatever variance each has.
    """
    mean, products = SampleMean(), krylov.products + PILOT
    while needed := min(still_needed(mean, relative_error), max_products - products):
        if swept := len(mean.samples):
            finish = _left(krylov) <= needed
            needed = min(needed, _MORE_SWEEPS * swept)
            steps = _left(krylov) if finish else round(_STEPS_PER_SWEEP * needed)
            steps = min(steps, krylov.limit - krylov.size, max_products - products - _LEAST_PROBES)
            while steps > 0 and not krylov.full:
                krylov.step()
                steps, products = steps - 1, products + 1
                on_product(products)
            if krylov.size == krylov.operator.dimension:
                return Trace(float(np.trace(krylov.projected)), 0.0, swept, products)
        end = len(mean.samples) + needed
        while needed := min(still_needed(mean, relative_error), end - len(mean.samples), max_products - products):
            sweeps = range(len(mean.samples), len(mean.samples) + min(needed, TOGETHER))
            known = float(np.trace(krylov.projected))
            mean.samples += [float(one.sum()) + known for one in each_sweep(operator, krylov.basis, seed, sweeps)]
            products += len(sweeps)
            on_product(products)
    return Trace(mean.value, mean.standard_error, len(mean.samples), products)


class _KeptProbes:
    """z and Az of some probes, and their coefficients in a basis that grows."""

    def __init__(self, operator: SymmetricOperator) -> None:
        self._operator = operator
        self._rows: list[Tensor] = []  # z, Az, z, Az …
        self._raw: list[float] = []
        self._basis_is_final = False
        self._coefficients = np.zeros((0, 0))

    @property
    def count(self) -> int:
        """Probes so far."""
        return len(self._raw)

    def add(self, probe: Tensor, krylov: Krylov) -> None:
        """Multiply another one. Where there is no memory for a larger basis, its coefficients are all that is kept."""
        probe = probe.to(self._operator.device)
        product = self._operator.matvec(probe)
        if not self._basis_is_final and not self.fit_beside(krylov):
            self._look(krylov)
            self._rows, self._basis_is_final = [], True
        if self._basis_is_final:
            self._coefficients = np.concatenate([self._coefficients, self._inner([probe, product], krylov.basis)])
        else:
            self._rows += [probe, product]
        self._raw.append(float(torch.dot(probe, product)))

    def fit_beside(self, krylov: Krylov) -> bool:
        """Whether there is memory for a larger basis."""
        return krylov.size + 2 * self.count < most_vectors(self._operator.dimension, self._operator.device) - 2

    def seen_through(self, krylov: Krylov) -> list[float]:
        """zᵀBz = zᵀAz − 2 (Qᵀz)·(QᵀAz) + (Qᵀz)ᵀ T (Qᵀz) of each."""
        self._look(krylov)
        probe, product = self._coefficients[::2], self._coefficients[1::2]
        inside = ((probe @ krylov.projected - 2 * product) * probe).sum(1)
        return [raw + float(part) for raw, part in zip(self._raw, inside, strict=True)]

    def _look(self, krylov: Krylov) -> None:
        if self._basis_is_final:
            return
        rows, columns = self._coefficients.shape
        if rows == len(self._rows) and columns == krylov.size:
            return
        grown = np.zeros((len(self._rows), krylov.size))
        grown[:rows, :columns] = self._coefficients
        if rows and columns < krylov.size:
            grown[:rows, columns:] = self._inner(self._rows[:rows], krylov.basis[columns:])
        if rows < len(self._rows):
            grown[rows:] = self._inner(self._rows[rows:], krylov.basis)
        self._coefficients = grown

    @staticmethod
    def _inner(rows: list[Tensor], basis: Tensor) -> Array:
        return (torch.stack([basis @ row for row in rows])).cpu().numpy()
