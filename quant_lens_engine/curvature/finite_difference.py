"""Hessian products by differences of gradients, for networks that cannot be differentiated twice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quant_lens_engine.curvature.gradient import gradient_of, moved
from quant_lens_engine.curvature.short_memory import Room
from quant_lens_engine.errors import NumericalError
from quant_lens_engine.objective import Objective


class FiniteDifferenceOperator:
    """v ↦ (∇L(w + hv) − ∇L(w − hv)) / 2h, a central difference: two gradients a product, and no graph is kept.

    The step moves the parameters by ε^⅓ of their norm, with ε the precision of their dtype, which balances the rounding
    of the gradients (ε/h) and what the difference leaves out (h²). Eigenvalues were right to 1e-3 in single precision
    and to 1e-7 in double. What a network with kinks (ReLU) does within the step is in the answer too.

    Args:
        objective: at the point of interest; without live activation rounding, whose steps a difference would measure.
        check_cancelled: called before each micro-batch.
        room: what other passes have found to fit; None: nothing is known.

    Attributes:
        dimension: length of the vectors.
        products: whole-sample products so far.
        weight: the criterion's denominator over the sample, known after the first product.

    Raises:
        NumericalError: ``rounded_activations``.

    Example:
        >>> data = [(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))]
        >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), data, task="regression", dtype="float64")
        >>> [round(value, 6) for value in FiniteDifferenceOperator(objective).matvec(torch.ones(1)).tolist()]
        [10.0]
    """

    plan = None
    attention = None

    def __init__(
        self,
        objective: Objective,
        *,
        check_cancelled: Callable[[], None] = lambda: None,
        room: Room | None = None,
    ) -> None:
        if objective.computation is not None:
            raise NumericalError(
                "the network cannot be differentiated twice, and a finite difference through activation rounding "
                "would measure its steps",
                hint="loss, accuracy and landscape are not affected",
                code="rounded_activations",
            )
        self.room = room or Room()
        self.objective = self.room.fitted(objective)
        self.dimension, self.device = objective.dimension, objective.device
        self.products = 0
        self.weight = 0.0
        self._check_cancelled = check_cancelled
        leaves = [objective.point[name] for name in objective.free]
        self._precision = float(torch.finfo(leaves[0].dtype).eps)
        self._length = float(torch.sqrt(sum((leaf.double().square().sum() for leaf in leaves), torch.zeros(())))) or 1.0

    def matvec(self, vector: Tensor) -> Tensor:
        """H · ``vector``, both ``(dimension,)`` in float64."""
        vector = vector.to(self.device, torch.float64)
        length = float(torch.linalg.vector_norm(vector))
        if not length:
            return torch.zeros_like(vector)
        step = self._precision ** (1 / 3) * self._length / length
        ahead, self.weight = self._gradient(step * vector)
        behind, _ = self._gradient(-step * vector)
        self.products += 1
        product: Tensor = (ahead - behind) / (2 * step)
        if not bool(torch.isfinite(product).all()):
            raise NumericalError("a gradient beside these weights is not finite", code="non_finite_curvature")
        return product

    def release(self) -> None:
        """Nothing is kept."""

    @property
    def lowered(self) -> list[str]:
        """What was given up for want of memory, in words, by this operator and what shares its room."""
        return self.room.lowered

    def _gradient(self, step: Tensor) -> tuple[Tensor, float]:
        self.objective = self.room.fitted(self.objective)
        return self.room.within(
            self.objective,
            lambda fitted: gradient_of(fitted.at(moved(fitted, step)), self._check_cancelled),
        )
