"""The diagonal of the Hessian: the second derivative of the loss along each parameter by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from quant_lens_engine.curvature.arguments import check_arguments
from quant_lens_engine.curvature.krylov import Krylov, SymmetricOperator, exact_diagonal
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.traces import FEWEST_PROBES, known_diagonal, student_factor, unknown_diagonal
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.randomness import rademacher

_BASIS = 24
"""Lanczos products before the first probe: they take the large eigenvalues, and most noise, out of every probe."""

_ONE_SIGMA = math.erf(1 / math.sqrt(2))


class Diagonal(NamedTuple):
    """The diagonal ``(dimension,)``, the standard error of each entry over probes, and the cost.

    Standard errors are 0 where the diagonal is exact, and infinite after a single probe.
    """

    values: Tensor
    standard_errors: Tensor
    probes: int
    products: int

    @property
    def relative_error(self) -> float:
        """‖standard errors‖ / ‖values‖: expected, not measured."""
        length = float(torch.linalg.vector_norm(self.values))
        return float(torch.linalg.vector_norm(self.standard_errors)) / length if length else 0.0


def krylov_diagonal(
    operator: SymmetricOperator,
    *,
    relative_error: float = 0.1,
    max_products: int = 500,
    seed: int = 0,
    on_product: Callable[[int], None] = lambda _: None,
) -> Diagonal:
    """diag A until its expected error is ``relative_error`` of it in norm; exact where that is no dearer.

    What a Krylov basis spans is known exactly; the rest is estimated by z ⊙ Bz (Bekas, Kokiopoulou and Saad 2007;
    deflated as in Hutch++). The error falls with the root of the number of probes: a single entry far below the largest
    ones stays uncertain, and its standard error says so.

    Args:
        operator: symmetric.
        relative_error: ‖standard errors‖ / ‖diagonal‖ to stop at.
        max_products: cap, also where the exact diagonal would take few more.
        seed: of the start vector and the probes.
        on_product: called with the number of products.

    Raises:
        InputError: ``bad_argument``: one of them is out of its range.

    Example:
        >>> from quant_lens_engine.curvature.dense import DenseOperator
        >>> krylov_diagonal(DenseOperator(torch.diag(torch.arange(5.0)))).values.round(decimals=6).tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    check_arguments(relative_error=relative_error, max_products=max_products)
    dimension, device = operator.dimension, operator.device
    if dimension <= min(_BASIS + FEWEST_PROBES, max_products):
        return _exact(operator, 0)
    krylov = Krylov(operator, seed)
    while krylov.products < min(_BASIS, max_products - 2) and not krylov.full:
        krylov.step()
        on_product(krylov.products)
    known = known_diagonal(krylov)
    mean, squares = torch.zeros_like(known), torch.zeros_like(known)
    probes = 0
    while True:
        probe = rademacher(dimension, seed, "probe", probes).to(device)
        estimate = unknown_diagonal(krylov, probe, operator.matvec(probe))
        probes += 1
        step = estimate - mean
        mean += step / probes
        squares += step * (estimate - mean)
        on_product(krylov.products + probes)
        plain = torch.sqrt(squares / max(1, probes - 1) / probes) if probes > 1 else torch.full_like(mean, math.inf)
        errors = plain * student_factor(probes, _ONE_SIGMA)
        found = Diagonal(known + mean, errors, probes, krylov.products + probes)
        if found.products >= max_products or (probes >= FEWEST_PROBES and found.relative_error <= relative_error):
            return found
        excess = found.relative_error / relative_error
        needed = probes * excess * excess
        if probes == FEWEST_PROBES and needed > dimension and found.products + dimension <= max_products:
            return _exact(operator, found.products)


def _exact(operator: SymmetricOperator, before: int) -> Diagonal:
    """Without a probe; ``before``: products that were taken already."""
    values, _ = exact_diagonal(operator)
    return Diagonal(values, torch.zeros_like(values), 0, before + operator.dimension)


@dataclass(frozen=True)
class DiagonalOfHessian:
    """∂²L/∂w² of every weight, loss units over weight units squared.

    Attributes:
        values: by parameter, in its shape.
        standard_errors: over probes, likewise; zero where the diagonal is exact, infinite for a single one.
        hvps: whole-sample products.
    """

    values: dict[str, Tensor]
    standard_errors: dict[str, Tensor]
    hvps: int


def diagonal(
    model: nn.Module,
    loader: Iterable[Any],
    criterion: nn.Module | Callable[..., Tensor] | None = None,
    relative_error: float = 0.1,
    seed: int = 0,
    *,
    max_products: int = 500,
    operator: str = "hessian",
    **objective: Any,
) -> DiagonalOfHessian:
    """The diagonal of the loss Hessian, or of another operator; see :func:`krylov_diagonal`.

    Args:
        model: untouched.
        loader: batches, read once.
        criterion: None for cross-entropy.
        relative_error: of the whole diagonal, in norm.
        seed: of start vector and probes.
        max_products: cap; for 1 the standard errors are infinite, unless that is the whole diagonal.
        operator: one of :data:`~quant_lens_engine.curvature.operators.OPERATORS`.
        objective: of :class:`~quant_lens_engine.objective.Objective`, such as ``parameters=["head"]``.

    Raises:
        InputError: ``bad_argument``: one of them is out of its range.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))]
        >>> diagonal(model, data, nn.MSELoss()).values["weight"].round(decimals=6).tolist()
        [[1.0, 4.0]]
    """
    check_arguments(relative_error=relative_error, max_products=max_products)
    function = Objective(model, loader, criterion, **objective)
    found = krylov_diagonal(
        OPERATORS[operator](function), relative_error=relative_error, max_products=max_products, seed=seed
    )
    shapes = {name: function.point[name].shape for name in function.free}
    sizes = [shape.numel() for shape in shapes.values()]

    def named(flat: Tensor) -> dict[str, Tensor]:
        pieces = torch.split(flat, sizes)
        return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}

    return DiagonalOfHessian(named(found.values), named(found.standard_errors), found.products)
