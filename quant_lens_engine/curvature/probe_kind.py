"""Which probes of a sum's trace need fewer products: one for all terms, or another one for each of them.

With B = (I − QQᵀ) A (I − QQᵀ) and B_i that of a term, zᵀBz has the variance 2 (‖B‖² − Σ diag(B)²) over Rademacher z,
and Σ z_iᵀB_i z_i the sum of those of the B_i. Neither is always the smaller one: alike terms add up in B, opposite ones
cancel out. A few products with the same vectors for all terms, seen term by term, estimate both variances: ‖B‖² as the
mean of ‖Bz‖², Σ diag(B)² from z ⊙ Bz of different z. They vary far less than the variance of a few samples does.

What was looked at for the choice takes no part in the estimate: samples that were chosen because they lay close
together would make its standard error too small.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from quant_lens_engine.curvature.krylov import SymmetricOperator
from quant_lens_engine.curvature.row_groups import SumOperator, terms_of
from quant_lens_engine.curvature.traces import FEWEST_PROBES
from quant_lens_engine.objective.randomness import rademacher

PILOT = 4
"""Products that decide."""

MARGIN = 1.5
"""How many times less variance pays for a sweep: small passes take up to twice a product's time, and a basis that grows
takes less from the terms than from their sum (``docs/decisions.md``)."""


class Spreads(NamedTuple):
    """Tr A, and the variances of a sample of it with one probe for all terms and with a probe for each."""

    trace: float
    together: float
    apart: float


class TermSpreads:
    """Tr B and both variances, from the products of the terms.

    Args:
        probes: Rademacher z ``(k, dimension)``, two at least.
        basis: Q, orthonormal ``(size, dimension)``.

    Attributes:
        vectors: (I − QQᵀ) z, what the terms are to be multiplied with.

    Example:
        >>> probes = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
        >>> sums = TermSpreads(probes, torch.zeros(0, 2))
        >>> for term in (torch.ones(2, 2), -torch.ones(2, 2)):
        ...     sums.add(probes @ term)
        >>> sums.spreads(1.0).tolist()
        [0.0, 0.0, 16.0]
    """

    def __init__(self, probes: Tensor, basis: Tensor) -> None:
        self._probes, self._basis = probes, basis
        self.vectors = self._outside(probes)
        self._total, self._apart = torch.zeros_like(probes), 0.0

    def add(self, product: Tensor) -> None:
        """Take A_i times the vectors in."""
        outside = self._outside(product)
        self._total += outside
        self._apart += self._variance(outside)

    def spreads(self, weight: float) -> Tensor:
        """Tr B, one probe for all, a probe for each, of the sum divided by ``weight``, ``(3,)``."""
        trace = float((self._probes * self._total).sum()) / len(self._probes)
        found = [trace / weight, self._variance(self._total) / weight**2, self._apart / weight**2]
        return torch.tensor(found, dtype=torch.float64)

    def _outside(self, vectors: Tensor) -> Tensor:
        return vectors - (vectors @ self._basis.T) @ self._basis

    def _variance(self, products: Tensor) -> float:
        diagonals, count = self._probes * products, len(products)
        pairs = float(diagonals.sum(0).square().sum() - diagonals.square().sum()) / (count * (count - 1))
        return max(0.0, 2 * (float(products.square().sum()) / count - pairs))


def spreads(operator: SumOperator, basis: Tensor, known: float, seed: int) -> Spreads:
    """By :data:`PILOT` products, with probes that are used for nothing else.

    Args:
        operator: the sum.
        basis: Q, orthonormal ``(size, dimension)``.
        known: the trace of QᵀAQ.
        seed: of the probes.
    """
    drawn = [rademacher(basis.shape[1], seed, "pilot", index).to(basis.device) for index in range(PILOT)]
    trace, together, apart = operator.spreads(torch.stack(drawn), basis).tolist()
    return Spreads(trace + known, together, apart)


def can_choose(operator: SymmetricOperator, most: int) -> bool:
    """Whether there is a choice, and room for the pilot and the fewest probes in ``most`` products."""
    return terms_of(operator) > 1 and most >= PILOT + FEWEST_PROBES


def apart_pays(found: Spreads, *, relative_error: float, most: int, exact: int, together: int = 0) -> bool:
    """Whether a probe for each term gets to ``relative_error`` in fewer products than one for all, by :data:`MARGIN`.

    Where the fewest probes do, either way, those for each term need the smaller basis.

    Args:
        found: the variances.
        relative_error: of the standard error to the trace.
        most: products to come; where these are too few, the smaller error at their end counts.
        exact: products that complete the basis.
        together: probes that were taken with one for all.

    Example:
        >>> cheap, dear = Spreads(1.0, 0.04, 0.01), Spreads(1.0, 0.04, 0.08)
        >>> [apart_pays(each, relative_error=0.02, most=500, exact=1000) for each in (cheap, dear)]
        [True, False]
        >>> apart_pays(cheap, relative_error=0.02, most=500, exact=1000, together=90)
        False
    """
    allowed = (relative_error * found.trace) ** 2
    if found.apart > allowed * min(most, exact):
        return most < exact and MARGIN * found.apart * (together + most) <= found.together * most
    wanted, otherwise = (variance / allowed if allowed else 0.0 for variance in (MARGIN * found.apart, found.together))
    return max(wanted, FEWEST_PROBES) <= max(otherwise, FEWEST_PROBES) - together
