"""Operators that are sums, written down: for many seeds."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant_lens_engine.curvature import HessianOperator
from quant_lens_engine.curvature.dense import DenseOperator
from quant_lens_engine.curvature.probe_kind import TermSpreads
from quant_lens_engine.objective import Objective


class DenseSum(DenseOperator):
    """Σ of terms ``(terms, dimension, dimension)``."""

    def __init__(self, parts: Tensor) -> None:
        super().__init__(parts.sum(0))
        self.parts, self.terms = parts, len(parts)

    def sweep(self, vectors: Any) -> Tensor:
        drawn = torch.stack([vectors(term) for term in range(self.terms)])
        return (drawn * (drawn @ self.parts)).sum(0)

    def spreads(self, probes: Tensor, basis: Tensor) -> Tensor:
        sums = TermSpreads(probes, basis)
        for product in sums.vectors @ self.parts:
            sums.add(product)
        return sums.spreads(1.0)


def variances(parts: Tensor, basis: Tensor) -> tuple[float, float]:
    """Of a sample with one Rademacher vector for all terms, and with one for each, by their closed form."""
    outside = torch.eye(basis.shape[1], dtype=torch.float64) - basis.T @ basis
    whole, terms = outside @ parts.sum(0) @ outside, outside @ parts @ outside
    return _variance(whole[None]), _variance(terms)


def _variance(terms: Tensor) -> float:
    return float(2 * (terms.square().sum() - terms.diagonal(dim1=1, dim2=2).square().sum()))


def dense_sum(operator: HessianOperator) -> DenseSum:
    """The same terms as a Hessian's."""
    objective, groups = operator._groups.pieces(None)
    unit = torch.eye(operator.dimension, dtype=torch.float64)
    operator.matvec(unit[0])
    rows: list[list[int]] = [[] for _ in range(operator.terms)]
    of_row = [group for group, batch in zip(groups, objective.sample.batches, strict=True) for _ in range(batch.rows)]
    for row, group in enumerate(of_row):
        rows[group].append(row)
    parts = [HessianOperator(objective.select(torch.tensor(each))) for each in rows]
    return DenseSum(torch.stack([part.matmat(unit) * part.weight / operator.weight for part in parts]))


def perceptron(rows: int = 192, steps: int = 0) -> Objective:
    """130 parameters in float64, on classes that a line divides: barely trained it is indefinite, later nearly not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(rows, 8, dtype=torch.float64)
        y = (x @ torch.randn(8, 4, dtype=torch.float64)).argmax(1)
        model = nn.Sequential(nn.Linear(8, 10), nn.Tanh(), nn.Linear(10, 4)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return Objective(model, list(zip(x.split(64), y.split(64), strict=True)))


def definite(common: float, *, dimension: int = 120, terms: int = 16, rank: int = 20) -> DenseSum:
    """Terms U diag(s) Uᵀ, whose U are alike to the degree ``common``, 0 to 1."""
    source = torch.Generator().manual_seed(1)
    scales = torch.logspace(0, -2, rank, dtype=torch.float64)
    shape = (terms + 1, dimension, rank)
    drawn = torch.randn(shape, generator=source, dtype=torch.float64) / dimension**0.5
    factors = common * drawn[0] + (1 - common) * drawn[1:]
    return DenseSum((factors * scales) @ factors.mT / terms)


def cancelling(dimension: int = 120) -> DenseSum:
    """Alike terms, and indefinite ones three times as large whose sum is zero."""
    alike = definite(0.5, dimension=dimension, rank=40).parts
    noise = torch.randn(alike.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    noise = noise + noise.mT
    noise -= noise.mean(0)
    return DenseSum(alike + 3 * noise * alike.norm() / noise.norm())


@cache
def example(name: str) -> DenseSum:
    """One of :data:`EXAMPLES`."""
    return EXAMPLES[name]()


EXAMPLES = {
    "trained perceptron": lambda: dense_sum(HessianOperator(perceptron(steps=150))),
    "untrained perceptron": lambda: dense_sum(HessianOperator(perceptron())),
    "definite, alike": lambda: definite(0.5),
    "definite, unlike": lambda: definite(0.0),
    "cancelling": cancelling,
}
