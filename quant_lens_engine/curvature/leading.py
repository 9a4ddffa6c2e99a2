"""The eigenvectors of the largest eigenvalues, by themselves."""

from __future__ import annotations

from torch import Tensor

from quant_lens_engine.curvature.lanczos import extreme_spectrum
from quant_lens_engine.curvature.operators.hessian import HessianOperator
from quant_lens_engine.curvature.plan import HvpPlan
from quant_lens_engine.objective import Objective


def leading_eigenvectors(
    objective: Objective,
    count: int,
    *,
    tolerance: float = 1e-4,
    max_products: int = 300,
    seed: int = 0,
    hvp_plan: HvpPlan | None = None,
) -> tuple[Tensor, list[float]]:
    """Orthonormal eigenvectors ``(count, dimension)`` of ∇²L at the objective's point, and their eigenvalues,
    descending.

    Example:
        >>> import torch
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))]
        >>> objective = Objective(torch.nn.Linear(2, 1, bias=False), data, task="regression")
        >>> vectors, values = leading_eigenvectors(objective, 1)
        >>> [round(abs(x), 6) for x in vectors[0].tolist()], round(values[0], 6)
        ([0.0, 1.0], 4.0)
    """
    operator = HessianOperator(objective, plan=hvp_plan)
    found = extreme_spectrum(
        operator, top=count, bottom=0, tolerance=tolerance, max_products=max_products, seed=seed, rounding=False
    )  # fmt: skip
    return found.top.vectors, [float(value) for value in found.top.values]
