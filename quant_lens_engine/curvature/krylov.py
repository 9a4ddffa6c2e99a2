"""The Lanczos process: an orthonormal basis in which a symmetric operator is tridiagonal."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from quant_lens_engine.curvature.interval import Array, upper_bound
from quant_lens_engine.objective.randomness import normal

BASIS_BYTES = 2**32
"""The Krylov basis is kept in float64 up to this size, which caps the steps for very large models."""


class SymmetricOperator(Protocol):
    """Anything with a dimension and symmetric products of flat float64 vectors."""

    @property
    def dimension(self) -> int:
        """Length of the vectors."""

    @property
    def device(self) -> torch.device:
        """Where vectors live."""

    def matvec(self, vector: Tensor) -> Tensor:
        """A · ``vector``, both ``(dimension,)``."""


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
    """The Lanczos process from one random start vector, with full re-orthogonalisation, twice (Parlett 1998, §13).

    All of its algebra is in float64, whatever precision the products have.

    Args:
        operator: symmetric.
        seed: of the start vector.
        run: which start vector; another run is another vector.
        deflated: orthonormal vectors ``(k, dimension)`` that the process stays orthogonal to.

    Attributes:
        steps: products so far.
        asymmetry: the largest part of a product that a symmetric operator would not have: its rounding error.
        exhausted: the Krylov space is invariant; its Ritz values are eigenvalues.
    """

    def __init__(self, operator: SymmetricOperator, seed: int, *, run: int = 0, deflated: Tensor | None = None) -> None:
        self.operator = operator
        self.deflated = deflated
        self.free_dimension = operator.dimension - (0 if deflated is None else deflated.shape[0])
        self.limit = max(1, min(self.free_dimension, BASIS_BYTES // (8 * operator.dimension)))
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self.asymmetry = 0.0
        self.exhausted = self.free_dimension == 0
        self._rows = torch.empty((0, operator.dimension), dtype=torch.float64, device=operator.device)
        start = normal(operator.dimension, seed, "lanczos", run).to(operator.device)
        start = self._orthogonalised(start, 0)
        self._append(start / torch.linalg.vector_norm(start))

    @property
    def steps(self) -> int:
        """Products so far."""
        return len(self.alphas)

    @property
    def basis(self) -> Tensor:
        """The orthonormal vectors that have been multiplied, ``(steps, dimension)``."""
        return self._rows[: self.steps]

    def step(self) -> None:
        """One more product."""
        index = self.steps
        product = self.operator.matvec(self._rows[index])
        overlaps = self._rows[: index + 1] @ product
        self.alphas.append(float(overlaps[index]))
        self._note_asymmetry(overlaps, index)
        remainder = self._orthogonalised(product, index + 1)
        beta = float(torch.linalg.vector_norm(remainder))
        scale = max(map(abs, [*self.alphas, *self.betas]))
        self.exhausted = self.steps == self.free_dimension or beta <= 8 * torch.finfo(torch.float64).eps * scale
        self.betas.append(0.0 if self.exhausted else beta)
        if not self.exhausted and self.steps < self.limit:
            self._append(remainder / beta)

    @property
    def full(self) -> bool:
        """No further step is possible."""
        return self.exhausted or self.steps >= self.limit

    def ritz(self) -> Ritz:
        """The Ritz values so far, with their residuals and their vectors' coefficients in the basis (columns)."""
        solved = eigh_tridiagonal(np.array(self.alphas), np.array(self.betas[:-1]))
        values, coefficients = solved[0].astype(np.float64), solved[1].astype(np.float64)
        return Ritz(values, self.betas[-1] * np.abs(coefficients[-1]), coefficients)

    def bounds(self, ritz: Ritz, confidence: float) -> tuple[Bounds, Bounds]:
        """The largest and the smallest eigenvalue, each with its bound at ``confidence``; rounding comes on top."""
        betas = np.array(self.betas)
        highest = upper_bound(ritz.values, betas, self.free_dimension, confidence)
        lowest = -upper_bound(-ritz.values, betas, self.free_dimension, confidence)
        return Bounds(float(ritz.values[-1]), highest), Bounds(float(ritz.values[0]), lowest)

    def vectors(self, ritz: Ritz, indices: list[int]) -> Tensor:
        """Unit Ritz vectors ``(len(indices), dimension)``."""
        chosen = torch.from_numpy(np.ascontiguousarray(ritz.coefficients[:, indices].T)).to(self.basis.device)
        vectors: Tensor = chosen @ self.basis
        lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        return vectors / lengths

    def _orthogonalised(self, vector: Tensor, count: int) -> Tensor:
        for _ in range(2):
            for rows in (self._rows[:count], self.deflated):
                if rows is not None and rows.shape[0]:
                    vector = vector - rows.T @ (rows @ vector)
        return vector

    def _note_asymmetry(self, overlaps: Tensor, index: int) -> None:
        if index == 0:
            return
        foreign = overlaps[:index].clone()
        foreign[index - 1] -= self.betas[index - 1]
        self.asymmetry = max(self.asymmetry, float(torch.linalg.vector_norm(foreign)))

    def _append(self, row: Tensor) -> None:
        count = self.steps + 1
        if self._rows.shape[0] < count:
            grown = torch.empty((min(2 * count + 14, self.limit), row.shape[0]), dtype=torch.float64, device=row.device)
            grown[: count - 1] = self._rows[: count - 1]
            self._rows = grown
        self._rows[count - 1] = row
