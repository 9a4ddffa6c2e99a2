"""The groups of rows that a sample's curvature is a sum over, and probes that are independent from group to group.

For A = Σ_g A_g over groups of rows and independent z_g with E[z_g z_gᵀ] = I, Σ_g z_gᵀ A_g z_g has the mean Tr A, as
zᵀAz has with one z for all, and costs the same gradients. Its variance is Σ_g Var(zᵀA_g z): the covariances between
groups, positive where the A_g are alike, are gone, which divides the variance by up to the number of groups.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from quant_lens_engine.curvature.symmetric_operator import SymmetricOperator, most_together
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.randomness import generator

ENOUGH_GROUPS = 32
"""More of them are made only where a group would have more rows than :data:`MOST_ROWS`."""

FEWEST_ROWS = 4
"""Rows of a group at least, on a CPU: with fewer a sweep is dearer than it saves variance
(``benchmarks/results/trace-by-group.md``)."""

MOST_ROWS = 64
"""Rows of a group at most, on a CPU: from here on more rows at a time make a product no cheaper."""

ACCELERATOR_ROWS = (128, 512)
"""The fewest and most rows of a group elsewhere, where small passes do not fill the device."""


@runtime_checkable
class SumOperator(Protocol):
    """An operator A = Σ_i A_i whose terms can be multiplied by vectors of their own."""

    @property
    def terms(self) -> int:
        """How many there are."""

    def sweep(self, vectors: Callable[[int], Tensor]) -> Tensor:
        """Σ_i v_i ⊙ A_i v_i over terms i, ``(k, dimension)``, from ``vectors(i)`` of that shape; it costs k products.

        ``vectors`` is called for each term once, in order (again from the first where memory runs out).
        """

    def spreads(self, probes: Tensor, basis: Tensor) -> Tensor:
        """Trace and variances behind a basis, ``(3,)``, from k ``probes`` that are the same for all terms; it costs k
        products. See :class:`~quant_lens_engine.curvature.probe_kind.TermSpreads`."""


def terms_of(operator: SymmetricOperator) -> int:
    """How many terms an operator can be taken apart into."""
    return operator.terms if isinstance(operator, SumOperator) else 1


class RowGroups:
    """Ranges of rows that depend on the sample alone, not on the micro-batches that memory leaves room for.

    Groups have a power of two rows, by the number of rows of the sample. Batches that cannot be joined, as of sequences
    of unequal lengths, are divided each by itself. Where the loss is no sum over rows, a group is a batch.

    Args:
        objective: in the micro-batches that it was given.

    Example:
        >>> data = [(torch.zeros(24, 1), torch.zeros(24, 1)), (torch.zeros(20, 1), torch.zeros(20, 1))]
        >>> groups = RowGroups(Objective(torch.nn.Linear(1, 1), data, task="regression"))
        >>> groups.count, groups.pieces(None)[1][:3], groups.pieces(1)[1][:3]
        (11, [0, 1, 2], [0, 0, 0])
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._rows = _group_rows(objective) if _adds_over_rows(objective) else None
        grouped = objective if self._rows is None else objective.regrouped(self._rows)
        self._ends = list(accumulate(batch.rows for batch in grouped.sample.batches))
        self.count = len(self._ends)

    def pieces(self, most_rows: int | None) -> tuple[Objective, list[int]]:
        """The same function in micro-batches that divide the groups, and the group of each.

        Args:
            most_rows: of a micro-batch; None: as many as the given ones have.
        """
        largest = max(batch.rows for batch in self._objective.sample.batches)
        most_rows = largest if most_rows is None else min(most_rows, largest)
        if self._rows is None:
            pieces = self._objective if most_rows == largest else self._objective.regrouped(most_rows)
        else:
            pieces = self._objective.regrouped(min(self._rows, 1 << (most_rows.bit_length() - 1)))
        starts = accumulate((batch.rows for batch in pieces.sample.batches[:-1]), initial=0)
        return pieces, [bisect_right(self._ends, start) for start in starts]


class GroupProbes:
    """Rademacher vectors of some sweeps, another one for each group, less their part in a basis.

    Args:
        basis: orthonormal ``(size, dimension)``.
        seed: of the probes; each depends on it, on the sweep and on the group alone.
        sweeps: their numbers.
    """

    def __init__(self, basis: Tensor, seed: int, sweeps: range) -> None:
        self._basis, self._seed, self._sweeps = basis, seed, sweeps

    def __call__(self, group: int) -> Tensor:
        """(I − QQᵀ) z of each sweep, ``(sweeps, dimension)``."""
        basis = self._basis
        drawn = [_signs(basis.shape[1], self._seed, sweep, group).to(basis.device) for sweep in self._sweeps]
        probes = torch.stack(drawn).to(torch.float64)
        return probes.addmm_(probes @ basis.T, basis, alpha=-1) if len(basis) else probes


def each_sweep(operator: SumOperator, basis: Tensor, seed: int, sweeps: range) -> Iterator[Tensor]:
    """Σ_g r_g ⊙ A_g r_g ``(dimension,)`` of each sweep, so many at a time as fit; see :class:`GroupProbes`."""
    most = most_together(basis.shape[1], basis.device)
    for start in range(sweeps.start, sweeps.stop, most):
        yield from operator.sweep(GroupProbes(basis, seed, range(start, min(start + most, sweeps.stop))))


def _signs(dimension: int, seed: int, sweep: int, group: int) -> Tensor:
    """Independent ±1 ``(dimension,)`` in int8: a bit each, for they are many."""
    source = generator(seed, "group probe", sweep, group)
    drawn = torch.randint(0, 256, (-(-dimension // 8),), generator=source, dtype=torch.uint8)
    bits = np.unpackbits(drawn.numpy())[:dimension]
    return torch.from_numpy(bits.astype(np.int8)).mul_(2).sub_(1)


def _group_rows(objective: Objective) -> int:
    fewest, most = (FEWEST_ROWS, MOST_ROWS) if objective.device.type == "cpu" else ACCELERATOR_ROWS
    wanted = -(-objective.samples // ENOUGH_GROUPS)
    return min(max(1 << (wanted - 1).bit_length(), fewest), most)


def _adds_over_rows(objective: Objective) -> bool:
    """Whether the loss comes a row each: a number for a batch may depend on which rows are in it."""
    few = objective.select(torch.arange(min(2, objective.samples)))
    with torch.no_grad():
        return all(few.terms(batch).losses.shape[0] == batch.rows for batch in few.batches()) and few.samples > 1
