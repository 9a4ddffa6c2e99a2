"""Hessian products by a directional derivative of the gradient, several directions in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from quant_lens_engine.curvature.second_derivatives import named_operators
from quant_lens_engine.errors import NumericalError
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.objective.sample import Batch


class ForwardOverReverse:
    """v ↦ d/dt ∇(Σ losses)(w + t v) of one micro-batch, by forward mode over reverse mode (Pearlmutter 1994).

    No graph is kept between products, and up to ``width`` directions share one pass under ``vmap``. It needs operators
    that have a forward mode: recurrent layers have none.

    Args:
        objective: of the sample.
        batch: the micro-batch.
        point: the parameters; those in ``objective.free`` are moved.
        width: directions at a time.

    Raises:
        NumericalError: ``no_forward_mode``, naming the operator.

    Example:
        >>> data = [(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))]
        >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), data, task="regression")
        >>> products = ForwardOverReverse(objective, next(objective.batches()), objective.point, width=2)
        >>> [product[0].tolist() for product in products([[torch.ones(1, 1)], [torch.full((1, 1), 2.0)]])]
        [[[20.0]], [[40.0]]]
    """

    def __init__(self, objective: Objective, batch: Batch, point: Point, *, width: int) -> None:
        self._objective, self._batch, self._width = objective, batch, width
        self._fixed = {name: tensor.detach() for name, tensor in point.items() if name not in objective.free}
        self._moved = {name: point[name].detach() for name in objective.free}

    def __call__(self, directions: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
        """The products with each of ``directions``, a tensor a parameter."""
        found: list[list[Tensor]] = []
        for start in range(0, len(directions), self._width):
            chunk = directions[start : start + self._width]
            stacked = {
                name: torch.stack(parts) for name, parts in zip(self._moved, zip(*chunk, strict=True), strict=True)
            }
            with named_operators(), _forward_mode():
                if len(chunk) == 1:
                    single = self._derivative({name: parts[0] for name, parts in stacked.items()})
                    products = {name: product[None] for name, product in single.items()}
                else:
                    products = vmap(self._derivative)(stacked)
            found += [[product[index] for product in products.values()] for index in range(len(chunk))]
        return found

    def _derivative(self, direction: dict[str, Tensor]) -> dict[str, Tensor]:
        product: dict[str, Tensor] = jvp(grad(self._loss), (self._moved,), (direction,))[1]
        return product

    def _loss(self, moved: dict[str, Tensor]) -> Tensor:
        return self._objective.terms(self._batch, self._fixed | moved).losses.double().sum()


@contextmanager
def _forward_mode() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if "forward AD" not in str(error) and "forward mode" not in str(error):
            raise
        found = re.search(r"forward AD with (\w+)", str(error))
        raise NumericalError(
            f"{found[1] if found else 'an operator of the model'} has no forward mode",
            hint="take the plan 'fresh', or leave the plan out",
            code="no_forward_mode",
        ) from error
