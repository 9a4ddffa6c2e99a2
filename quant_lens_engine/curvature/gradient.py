"""The gradient over the whole sample, and points beside the present one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import no_weight
from quant_lens_engine.objective.model_call import plain_paths


def gradient_of(objective: Objective, check_cancelled: Callable[[], None] = lambda: None) -> tuple[Tensor, float]:
    """∇L of the whole sample, ``(dimension,)`` in float64, and the criterion's denominator.

    Example:
        >>> data = [(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))]
        >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), data, task="regression")
        >>> gradient_of(objective.at({"weight": torch.ones(1, 1)}))[0].tolist()
        [10.0]
    """
    leaves = {name: objective.point[name].detach().requires_grad_() for name in objective.free}
    total = torch.zeros(objective.dimension, dtype=torch.float64, device=objective.device)
    weight = 0.0
    with torch.enable_grad(), plain_paths():
        for batch in objective.batches():
            check_cancelled()
            terms = objective.terms(batch, objective.point | leaves)
            parts = torch.autograd.grad(terms.losses.double().sum(), list(leaves.values()), allow_unused=True)
            start = 0
            for part, leaf in zip(parts, leaves.values(), strict=True):
                if part is not None:
                    total[start : start + leaf.numel()] += part.reshape(-1)
                start += leaf.numel()
            weight += float(terms.weights.sum())
    if not weight:
        raise no_weight()
    return total.div_(weight), weight


def moved(objective: Objective, step: Tensor) -> dict[str, Tensor]:
    """The objective's free parameters, moved by ``step`` ``(dimension,)``."""
    point: dict[str, Tensor] = {}
    start = 0
    for name in objective.free:
        parameter = objective.point[name]
        part = step[start : start + parameter.numel()].view(parameter.shape)
        point[name] = (parameter.double() + part).to(parameter.dtype)
        start += parameter.numel()
    return point
