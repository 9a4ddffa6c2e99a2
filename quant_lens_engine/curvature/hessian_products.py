"""Hessian products of an objective, in the way that its network allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from quant_lens_engine.curvature.finite_difference import FiniteDifferenceOperator
from quant_lens_engine.curvature.operators.hessian import HessianOperator
from quant_lens_engine.curvature.plan import HvpPlan, choose_plan
from quant_lens_engine.curvature.short_memory import Room
from quant_lens_engine.errors import NumericalError
from quant_lens_engine.objective import Objective


class HessianProducts(Protocol):
    """What measurements need of an operator over a sample."""

    dimension: int
    device: torch.device
    products: int

    @property
    def weight(self) -> float:
        """The criterion's denominator over the sample, known after the first product."""

    @property
    def lowered(self) -> list[str]:
        """What was given up for want of memory, in words."""

    @property
    def attention(self) -> str | None:
        """``math`` where attention was computed by the kernel that can be differentiated twice."""

    def matvec(self, vector: Tensor) -> Tensor:
        """H · ``vector``."""

    def release(self) -> None:
        """Forget what is kept between products."""


class HessianWay:
    """Exact products, or differences of gradients where an operator of the network has no second derivative.

    Args:
        plan: of the products; ``finite-difference`` takes differences from the beginning. None: by shape, decided on
            the first objective that products are asked of, for all that follow.
        check_cancelled: called before each micro-batch.

    Attributes:
        derivative: ``exact`` until :meth:`fall_back`, unless differences are asked for.
        without: the operator that has no second derivative.
        room: what fits the memory, known to every operator from here.
    """

    def __init__(
        self,
        plan: HvpPlan | None,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        self.derivative: Literal["exact", "finite-difference"] = (
            "finite-difference" if plan == "finite-difference" else "exact"
        )
        self.without: str | None = None
        self.plan = plan
        self.room = Room()
        self._check_cancelled = check_cancelled

    def operator(self, objective: Objective) -> HessianProducts:
        """The Hessian of an objective: of the whole sample, a part of it, or some parameters."""
        if self.derivative == "exact":
            self.plan = self.plan or choose_plan(objective)
            return HessianOperator(objective, self.plan, check_cancelled=self._check_cancelled, room=self.room)
        return FiniteDifferenceOperator(objective, check_cancelled=self._check_cancelled, room=self.room)

    def fall_back(self, error: NumericalError) -> None:
        """Take differences from here on.

        Raises:
            NumericalError: ``error``, where it has another reason.
        """
        if error.code != "not_twice_differentiable" or self.derivative != "exact":
            raise error
        self.derivative = "finite-difference"
        self.without = str(error.details.get("operator", ""))
