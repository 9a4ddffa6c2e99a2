"""Eigenpairs of an operator that is near another one, whose spectrum is known (Davidson 1975).

A variant with eight bits has nearly the float model's Hessian. The space starts from the float model's eigenvectors and
grows by corrections (M − θ)⁻¹ r of the worst residual r, with M the float model's Hessian as far as Lanczos learnt it.
Where the two are near, a correction or two for each eigenpair is enough; Lanczos from the same vectors forgets all but
their sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quant_lens_engine.curvature.basis_room import most_vectors
from quant_lens_engine.curvature.interval import Array
from quant_lens_engine.curvature.krylov import Bounds, Krylov, Ritz, SymmetricOperator
from quant_lens_engine.curvature.spectrum_end import error_of
from quant_lens_engine.objective.randomness import normal

START_BYTES = 2**29
"""What is kept of a spectrum for others to start from; of more, the values near zero are left out."""

NEAR = 0.03
"""‖w − w₀‖/‖w₀‖ up to which a start pays: six bits and more. On the examples five bits took as many products as a cold
start, and three took more."""


@dataclass(frozen=True)
class Start:
    """What Lanczos learnt of another operator.

    Attributes:
        name: whose it is.
        values: Ritz values, ascending ``(m,)``.
        vectors: their vectors ``(m, dimension)``.
    """

    name: str
    values: Array
    vectors: Tensor

    @classmethod
    def of(cls, name: str, krylov: Krylov) -> Start:
        """The Ritz pairs of a process that is finished."""
        ritz = krylov.ritz()
        room = max(1, START_BYTES // (8 * krylov.operator.dimension))
        order = np.sort(np.argsort(-np.abs(ritz.values), kind="stable")[:room])
        return cls(name, ritz.values[order], krylov.vectors(ritz, [int(index) for index in order]))


def is_near(point: Tensor, reference: Tensor) -> bool:
    """Whether the operator at ``point`` is better started from what is known at ``reference`` than at random."""
    return float(torch.linalg.vector_norm(point - reference)) <= NEAR * float(torch.linalg.vector_norm(reference))


class Davidson:
    """Rayleigh-Ritz on a space that starts from known eigenvectors, a product a step.

    It has what :class:`~quant_lens_engine.curvature.krylov.Krylov` has for those who read it. No bound comes from it:
    a deflated Lanczos process from a random start has to say that nothing was missed.

    Args:
        operator: symmetric.
        start: what is known of a near one.
        keep: eigenpairs of the lower and of the upper end that are looked for.
        seed: of the random vector that stands in for a correction that adds nothing.

    Attributes:
        products: taken so far.
        asymmetry: the largest difference of yᵀAx and xᵀAy: the products' rounding error.
        others: values of the start that the space does not look for: where eigenvalues are expected.
    """

    warm = True
    restarts = 0

    def __init__(self, operator: SymmetricOperator, start: Start, keep: tuple[int, int], seed: int) -> None:
        self.operator, self._start, self._seed = operator, start, seed
        self._low, self._high = keep
        self.asymmetry = 0.0
        count = len(start.values)
        looked_for = sorted({*range(min(keep[0], count)), *range(max(0, count - keep[1]), count)})
        self._waiting = list(start.vectors[looked_for])
        unused = np.setdiff1d(np.arange(count), looked_for)
        self.others = start.values[unused]
        self._unused = torch.from_numpy(unused)
        self._rows = operator_rows(operator)
        self._images = operator_rows(operator)
        self._projected = np.zeros((0, 0))

    @property
    def products(self) -> int:
        """Taken so far."""
        return self._rows.shape[0]

    @property
    def size(self) -> int:
        """Vectors of the space that have been multiplied."""
        return self._rows.shape[0]

    @property
    def basis(self) -> Tensor:
        """Orthonormal, ``(size, dimension)``."""
        return self._rows

    @property
    def projected(self) -> Array:
        """VᵀAV, ``(size, size)``."""
        return self._projected

    @property
    def opening(self) -> bool:
        """Whether vectors of the start are still to be multiplied."""
        return bool(self._waiting)

    @property
    def exhausted(self) -> bool:
        """Whether the space is the whole one."""
        return self.size == self.operator.dimension

    @property
    def full(self) -> bool:
        """No further step is possible."""
        return self.exhausted or 2 * (self.size + 1) > most_vectors(self.operator.dimension, self.operator.device)

    def outside(self, coefficients: Tensor) -> Tensor:
        """(A V − V VᵀAV) y for the coefficients y ``(size,)``, ``(dimension,)``."""
        inner = torch.from_numpy(self._projected).to(coefficients) @ coefficients
        return self._images.T @ coefficients - self._rows.T @ inner

    def outside_diagonal(self) -> Tensor:
        """The diagonal of (A V − V VᵀAV) Vᵀ, ``(dimension,)``."""
        inner = torch.from_numpy(self._projected).to(self._rows) @ self._rows
        return ((self._images - inner) * self._rows).sum(0)

    @property
    def outside_squares(self) -> float:
        """‖A V − V VᵀAV‖², the sum of squares."""
        return max(0.0, float(self._images.square().sum()) - float(np.sum(self._projected**2)))

    def step(self) -> None:
        """One more product."""
        vector = self._next()
        product = self.operator.matvec(vector)
        there, back = self._rows @ product, self._images @ vector
        if self.size:
            self.asymmetry = max(self.asymmetry, float((there - back).abs().max()))
        edge = ((there + back) / 2).cpu().numpy()
        grown = np.zeros((self.size + 1, self.size + 1))
        grown[:-1, :-1] = self._projected
        grown[-1, :-1] = grown[:-1, -1] = edge
        grown[-1, -1] = float(torch.dot(vector, product))
        self._projected = grown
        self._rows = torch.cat([self._rows, vector[None]])
        self._images = torch.cat([self._images, product[None]])

    def ritz(self) -> Ritz:
        """The Ritz values, ascending, with their residuals and their vectors' coefficients (columns)."""
        values, coefficients = np.linalg.eigh(self._projected)
        mixing = torch.from_numpy(np.ascontiguousarray(coefficients.T)).to(self._rows)
        scale = torch.from_numpy(values).to(self._rows)
        residuals = mixing @ self._images - scale[:, None] * (mixing @ self._rows)
        return Ritz(values, torch.linalg.vector_norm(residuals, dim=1).cpu().numpy(), coefficients)

    def bounds(self, ritz: Ritz, confidence: float) -> tuple[Bounds, Bounds]:  # noqa: ARG002 - as Krylov's
        """The extreme Ritz values; nothing is known of what is beyond."""
        return Bounds(float(ritz.values[-1]), math.inf), Bounds(float(ritz.values[0]), -math.inf)

    def vectors(self, ritz: Ritz, indices: Sequence[int]) -> Tensor:
        """Unit Ritz vectors ``(len(indices), dimension)``."""
        mixing = torch.from_numpy(np.ascontiguousarray(ritz.coefficients[:, list(indices)].T)).to(self._rows)
        found: Tensor = mixing @ self._rows
        return found

    def _next(self) -> Tensor:
        candidates = [self._waiting.pop(0)] if self._waiting else [self._correction()]
        candidates.append(normal(self.operator.dimension, self._seed, "davidson", self.size).to(self._rows))
        for candidate in candidates:
            vector: Tensor = candidate / torch.linalg.vector_norm(candidate)
            for _ in range(2):
                vector = vector - self._rows.T @ (self._rows @ vector)
            length = float(torch.linalg.vector_norm(vector))
            vector = vector / length
            if math.isfinite(length) and length > _NOTHING_NEW:
                break
        return vector

    def _correction(self) -> Tensor:
        """(M − θ)⁻¹ r for the eigenpair that is furthest from settled, without what the space started from."""
        ritz = self.ritz()
        index = self._worst(ritz)
        value = float(ritz.values[index])
        mixing = torch.from_numpy(np.ascontiguousarray(ritz.coefficients[:, index])).to(self._rows)
        residual = self._images.T @ mixing - value * (self._rows.T @ mixing)
        known = self._start.vectors
        along = known @ residual
        magnitude = float(np.abs(ritz.values).max())
        gaps = torch.from_numpy(self._start.values).to(residual) - value
        gaps = torch.where(gaps.abs() < 1e-5 * magnitude, torch.full_like(gaps, 1e-5 * magnitude), gaps)
        steps = torch.zeros_like(along)
        steps[self._unused] = along[self._unused] / gaps[self._unused]
        far = -value if abs(value) > 1e-5 * magnitude else 1e-5 * magnitude  # what M does not know is near zero
        correction: Tensor = known.T @ steps + (residual - known.T @ along) / far
        return correction

    def _worst(self, ritz: Ritz) -> int:
        count: int = len(ritz.values)
        magnitude = float(np.abs(ritz.values).max())
        wanted = [*range(min(self._low, count)), *range(max(0, count - self._high), count)]

        def distance(index: int) -> float:
            extreme = 10.0 if index in (0, count - 1) else 1.0
            return extreme * error_of(ritz, index, self.others) / max(abs(float(ritz.values[index])), 0.01 * magnitude)

        worst: int = max(wanted, key=distance)
        return worst


_NOTHING_NEW = 1e-8
"""Length of what is new in a unit vector below which it is rounding."""


def operator_rows(operator: SymmetricOperator) -> Tensor:
    """No vector of the operator's space, ``(0, dimension)``."""
    return torch.empty((0, operator.dimension), dtype=torch.float64, device=operator.device)
