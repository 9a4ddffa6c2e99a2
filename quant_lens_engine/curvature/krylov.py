"""The Lanczos process: an orthonormal basis in which a symmetric operator is tridiagonal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from quant_lens_engine.curvature.basis_room import most_vectors
from quant_lens_engine.curvature.interval import Array, upper_bound
from quant_lens_engine.curvature.symmetric_operator import (
    TOGETHER,
    BlockOperator,
    SymmetricOperator,
    each_product,
    exact_diagonal,
    product_error,
    products_with,
)
from quant_lens_engine.objective.randomness import normal

__all__ = [
    "TOGETHER", "BlockOperator", "Bounds", "Krylov", "Process", "Ritz", "SymmetricOperator", "each_product",
    "exact_diagonal", "product_error", "products_with", "step_together",
]  # fmt: skip

_FEWEST_NEW = 4
"""Basis vectors beyond those that a restart keeps, without which it would not get anywhere."""


class Process(Protocol):
    """A space that grows by a product a step, with the Ritz pairs in it; see :class:`Krylov`."""

    operator: SymmetricOperator
    asymmetry: float

    @property
    def warm(self) -> bool:
        """Whether the start was given, not random."""

    @property
    def opening(self) -> bool:
        """Whether it is still taking in what it was given."""

    @property
    def restarts(self) -> int:
        """How often the basis was compressed."""

    @property
    def others(self) -> Array | None:
        """Values that are expected, but not looked for."""

    @property
    def products(self) -> int:
        """Taken so far."""

    @property
    def size(self) -> int:
        """Vectors of the basis that have been multiplied."""

    @property
    def basis(self) -> Tensor:
        """Orthonormal, ``(size, dimension)``."""

    @property
    def projected(self) -> Array:
        """QᵀAQ, ``(size, size)``."""

    @property
    def exhausted(self) -> bool:
        """Whether the Ritz values are eigenvalues, all of those that can be seen."""

    @property
    def full(self) -> bool:
        """No further step is possible."""

    def outside(self, coefficients: Tensor) -> Tensor:
        """(A Q − Q QᵀAQ) y."""

    def outside_diagonal(self) -> Tensor:
        """The diagonal of (A Q − Q QᵀAQ) Qᵀ."""

    @property
    def outside_squares(self) -> float:
        """‖A Q − Q QᵀAQ‖²."""

    def step(self) -> None:
        """One more product."""

    def ritz(self) -> Ritz:
        """The Ritz pairs so far."""

    def bounds(self, ritz: Ritz, confidence: float) -> tuple[Bounds, Bounds]:
        """The largest and the smallest eigenvalue, each with its bound."""

    def vectors(self, ritz: Ritz, indices: Sequence[int]) -> Tensor:
        """Unit Ritz vectors ``(len(indices), dimension)``."""


class Ritz(NamedTuple):
    """Eigenvalues of the tridiagonal matrix, ascending ``(m,)``, and their residuals ‖Ay − θy‖ ``(m,)``."""

    values: Array
    residuals: Array
    coefficients: Array


class Bounds(NamedTuple):
    """An extreme Ritz value, and the end of the interval beyond it."""

    value: float
    beyond: float

    @property
    def width(self) -> float:
        """How far the eigenvalue can be from the Ritz value."""
        return abs(self.beyond - self.value)


class Krylov:
    """The Lanczos process from one start vector, with full re-orthogonalisation, twice (Parlett 1998, §13).

    All of its algebra is in float64, whatever precision the products have. Where the basis has
    :func:`~quant_lens_engine.curvature.basis_room.most_vectors`, it is compressed to the Ritz vectors of both ends and
    goes on (thick restart: Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000); bounds stay those of the steps before.

    Args:
        operator: symmetric.
        seed: of the start vector.
        run: which start vector; another run is another vector.
        deflated: orthonormal vectors ``(k, dimension)`` that the process stays orthogonal to.
        known: the eigenvalues of ``deflated`` ``(k,)``, for those who read the process.
        keep: Ritz vectors of the lower and the upper end that a restart has to keep.

    Attributes:
        products: taken so far.
        asymmetry: the largest part of a product that a symmetric operator would not have: its rounding error.
        exhausted: the Krylov space is invariant; its Ritz values are eigenvalues.
        restarts: how often the basis was compressed.
    """

    warm = opening = False
    others = None

    def __init__(
        self,
        operator: SymmetricOperator,
        seed: int,
        *,
        run: int = 0,
        deflated: Tensor | None = None,
        known: Array | None = None,
        keep: tuple[int, int] = (1, 1),
    ) -> None:
        self.operator, self.deflated, self._keep = operator, deflated, keep
        self.known = np.zeros(0) if known is None else known
        self.free_dimension = operator.dimension - (0 if deflated is None else deflated.shape[0])
        self.limit = max(1, min(self.free_dimension, most_vectors(operator.dimension, operator.device)))
        self.products = self.restarts = 0
        self.size = 0
        self.asymmetry = 0.0
        self.exhausted = self.free_dimension == 0
        self._rows = torch.empty((0, operator.dimension), dtype=torch.float64, device=operator.device)
        self._projected = np.zeros((0, 0))
        self._betas: list[float] = []
        self._narrowest = (-math.inf, math.inf)
        probe = self._orthogonalised(normal(operator.dimension, seed, "lanczos", run).to(operator.device), 0)
        self._length = torch.linalg.vector_norm(probe)
        first = probe / self._length
        self._append(first)

    @property
    def basis(self) -> Tensor:
        """The orthonormal vectors that have been multiplied, ``(size, dimension)``."""
        return self._rows[: self.size]

    @property
    def projected(self) -> Array:
        """QᵀAQ, tridiagonal until a restart, ``(size, size)``."""
        return self._projected[: self.size, : self.size]

    @property
    def beta(self) -> float:
        """Of A Q − Q QᵀAQ = β q eᵀ, with e the last unit vector; zero where the space is invariant."""
        return self._betas[-1] if self._betas else 0.0

    def outside(self, coefficients: Tensor) -> Tensor:
        """(A Q − Q QᵀAQ) y for the coefficients y ``(size,)``, ``(dimension,)``."""
        if not self.beta:
            return torch.zeros(self.operator.dimension, dtype=torch.float64, device=coefficients.device)
        return self.beta * coefficients[-1] * self._rows[self.size]

    def outside_diagonal(self) -> Tensor:
        """The diagonal of (A Q − Q QᵀAQ) Qᵀ, ``(dimension,)``."""
        if not self.size:
            return torch.zeros(self.operator.dimension, dtype=torch.float64, device=self._rows.device)
        return self.basis[-1] * self.outside(torch.ones(self.size, dtype=torch.float64, device=self._rows.device))

    @property
    def outside_squares(self) -> float:
        """‖A Q − Q QᵀAQ‖², the sum of squares."""
        return self.beta**2

    def step(self) -> None:
        """One more product."""
        self.take(self.operator.matvec(self.next_vector()))

    def next_vector(self) -> Tensor:
        """What the next product is taken with, ``(dimension,)``."""
        if self.size == self.limit:
            self._restart()
        return self._rows[self.size]

    def take(self, product: Tensor) -> None:
        """Go on with the product with :meth:`next_vector`."""
        index = self.size
        overlaps = self._rows[: index + 1] @ product
        self._grow(index + 1)
        self._projected[index, index] = float(overlaps[index])
        foreign = overlaps[:index].cpu().numpy() - self._projected[:index, index]
        self.asymmetry = max(self.asymmetry, float(np.linalg.norm(foreign)))
        remainder = self._orthogonalised(product, index + 1)
        beta = float(torch.linalg.vector_norm(remainder))
        self.size, self.products = index + 1, self.products + 1
        scale = float(np.abs(self.projected).max())
        self.exhausted = self.size == self.free_dimension or beta <= 8 * torch.finfo(torch.float64).eps * scale
        self._betas.append(0.0 if self.exhausted else beta)
        if not self.exhausted:
            self._append(remainder / beta)
            self._grow(index + 2)
            self._projected[index, index + 1] = self._projected[index + 1, index] = beta

    def first_product(self) -> tuple[Tensor, Tensor]:
        """z and P A z, for the vector z of independent normal numbers that the process started from, less its part
        along ``deflated``, and the projection P that takes that part away. Not after a restart."""
        first = self._rows[0]
        product = self._projected[0, 0] * first
        if self.size > 1 or not self.exhausted:
            product = product + self._projected[0, 1] * self._rows[1]
        return self._length * first, self._length * product

    @property
    def full(self) -> bool:
        """No further step is possible."""
        return self.exhausted or (self.size >= self.limit and self.limit < sum(self._keep) + _FEWEST_NEW)

    def ritz(self) -> Ritz:
        """The Ritz values so far, with their residuals and their vectors' coefficients in the basis (columns)."""
        if self.restarts:
            values, coefficients = np.linalg.eigh(self.projected)
        else:
            diagonal = np.diagonal(self.projected)
            values, coefficients = eigh_tridiagonal(diagonal, np.array(self._betas[: self.size - 1]))
        return Ritz(
            values.astype(np.float64), self._betas[-1] * np.abs(coefficients[-1]), coefficients.astype(np.float64)
        )

    def bounds(self, ritz: Ritz, confidence: float) -> tuple[Bounds, Bounds]:
        """The largest and the smallest eigenvalue, each with its bound at ``confidence``; rounding comes on top."""
        lowest, highest = self._narrowest
        if not self.restarts:
            betas = np.array(self._betas)
            highest = upper_bound(ritz.values, betas, self.free_dimension, confidence)
            lowest = -upper_bound(-ritz.values, betas, self.free_dimension, confidence)
            self._narrowest = lowest, highest
        return Bounds(float(ritz.values[-1]), highest), Bounds(float(ritz.values[0]), lowest)

    def vectors(self, ritz: Ritz, indices: Sequence[int]) -> Tensor:
        """Unit Ritz vectors ``(len(indices), dimension)``."""
        chosen = torch.from_numpy(np.ascontiguousarray(ritz.coefficients[:, list(indices)].T)).to(self.basis.device)
        vectors: Tensor = chosen @ self.basis
        lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        return vectors / lengths

    def _orthogonalised(self, vector: Tensor, count: int) -> Tensor:
        for _ in range(2):
            for rows in (self._rows[:count], self.deflated):
                if rows is not None and rows.shape[0]:
                    vector = vector - rows.T @ (rows @ vector)
        return vector

    def _restart(self) -> None:
        """Keep both ends' Ritz vectors, a third of the basis each, and the vector that comes next."""
        ritz = self.ritz()
        low, high = self._keep
        spare = max(0, self.limit - low - high - _FEWEST_NEW)
        low, high = low + spare // 3, high + spare // 3
        kept = [*range(low), *range(self.size - high, self.size)]
        following = self._rows[self.size].clone()
        vectors = self.vectors(ritz, kept)
        self._rows[: len(kept)], self._rows[len(kept)] = vectors, following
        self._projected[:] = 0.0
        count = len(kept)
        self._projected[range(count), range(count)] = ritz.values[kept]
        arrow = self._betas[-1] * ritz.coefficients[-1, kept]
        self._projected[count, :count] = self._projected[:count, count] = arrow
        self.size, self.restarts = count, self.restarts + 1

    def _append(self, row: Tensor) -> None:
        count = self.size + 1
        if self._rows.shape[0] < count:
            rows = min(2 * count + 14, self.limit + 1)
            grown = torch.empty((rows, row.shape[0]), dtype=torch.float64, device=row.device)
            grown[: count - 1] = self._rows[: count - 1]
            self._rows = grown
        self._rows[count - 1] = row

    def _grow(self, size: int) -> None:
        have = self._projected.shape[0]
        if have < size:
            grown = np.zeros((2 * size + 14, 2 * size + 14))
            grown[:have, :have] = self._projected
            self._projected = grown


def step_together(processes: Sequence[Krylov]) -> None:
    """One more product of each, taken together; they share an operator."""
    if processes:
        operator, all_of_them = processes[0].operator, range(len(processes))
        pairs = each_product(operator, lambda place: processes[place].next_vector(), all_of_them)
        for process, (_, product) in zip(processes, pairs, strict=True):
            process.take(product)
