"""The trace of a symmetric operator, from products with random signs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from quant_lens_engine.curvature.krylov import Krylov, SymmetricOperator
from quant_lens_engine.objective.randomness import rademacher

FEWEST_PROBES = 24
"""Before these an adaptive stop would take a lucky spread for a small error."""


class Trace(NamedTuple):
    """A trace, its standard error over probes (0 where it is exact), and what it cost."""

    value: float
    standard_error: float
    probes: int
    products: int


def hutchinson_trace(
    operator: SymmetricOperator,
    *,
    probes: int,
    seed: int = 0,
    known: Krylov | None = None,
    relative_error: float | None = None,
    on_probe: Callable[[int], None] = lambda _: None,
) -> Trace:
    """Tr A ≈ mean of zᵀAz over Rademacher probes z (Hutchinson 1989), exact where that is no dearer.

    With Lanczos vectors Q at hand, Tr A = Σ qᵀAq + Tr (I − QQᵀ) A (I − QQᵀ): the first part is known without a
    product, the second has lost the large eigenvalues and so most of the variance (Meyer et al., Hutch++, 2021). Probes
    are independent of Q, so the estimate stays unbiased, and its standard error is that of the probes.

    Args:
        operator: symmetric.
        probes: how many; a dimension up to this is summed over basis vectors instead, exactly.
        seed: of the probes; probe i is the same for every operator.
        known: a Lanczos process of the same operator.
        relative_error: stop when the standard error is below this share of the trace, after :data:`FEWEST_PROBES` at
            least; ``probes`` is then a cap.
        on_probe: called with the number of products after each.

    Example:
        >>> from quant_lens_engine.curvature.dense import DenseOperator
        >>> hutchinson_trace(DenseOperator(torch.diag(torch.arange(40.0))), probes=8).value
        780.0
    """
    dimension = operator.dimension
    if known is not None and known.steps == dimension:
        return Trace(math.fsum(known.alphas), 0.0, 0, 0)
    if dimension <= (probes if relative_error is None else FEWEST_PROBES):
        return _exact(operator, on_probe)
    basis = None if known is None else known.basis
    settled = 0.0 if known is None else math.fsum(known.alphas)
    samples: list[float] = []
    for index in range(probes):
        probe = _without(rademacher(dimension, seed, "probe", index).to(operator.device), basis)
        samples.append(float(torch.dot(probe, operator.matvec(probe))))
        on_probe(index + 1)
        if relative_error is not None and index + 1 >= FEWEST_PROBES:
            value, error = _mean(samples)
            if error <= relative_error * abs(settled + value):
                break
    value, error = _mean(samples)
    return Trace(settled + value, error, len(samples), len(samples))


def _exact(operator: SymmetricOperator, on_probe: Callable[[int], None]) -> Trace:
    """The diagonal, summed."""
    diagonal = []
    for index in range(operator.dimension):
        unit = torch.zeros(operator.dimension, dtype=torch.float64, device=operator.device)
        unit[index] = 1.0
        diagonal.append(float(operator.matvec(unit)[index]))
        on_probe(index + 1)
    return Trace(math.fsum(diagonal), 0.0, len(diagonal), len(diagonal))


def _without(vector: Tensor, basis: Tensor | None) -> Tensor:
    return vector if basis is None else vector - basis.T @ (basis @ vector)


def _mean(samples: list[float]) -> tuple[float, float]:
    count = len(samples)
    mean = math.fsum(samples) / count
    if count < 2:
        return mean, math.inf
    return mean, math.sqrt(math.fsum((sample - mean) ** 2 for sample in samples) / (count - 1) / count)
