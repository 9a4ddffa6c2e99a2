"""Directions through parameter space, shared by every variant of a run."""

from __future__ import annotations

import torch
from torch import Tensor

from quant_lens_engine.landscape.filter_normalization import filter_normalized
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.objective.randomness import generator


def random_directions(objective: Objective, base_point: Point, count: int, seed: int) -> list[dict[str, Tensor]]:
    """``count`` filter-normalised Gaussian directions at ``base_point``, the float parameters.

    They depend on the float parameters and the seed alone, so FP32 and every variant move along the same ones;
    direction i is the same however many are drawn. Only free parameters move; a tied tensor moves once.

    Args:
        objective: of the model.
        base_point: the float parameters.
        count: how many.
        seed: of the run.

    Returns:
        for each direction float64 tensors on the objective's device, by parameter name.
    """
    base = {name: base_point[name].to(objective.device) for name in objective.free}
    directions = []
    for index in range(count):
        source = generator(seed, "direction", index)
        drawn = {
            name: torch.randn(tensor.shape, generator=source, dtype=torch.float64).to(tensor.device)
            for name, tensor in base.items()
        }
        directions.append(filter_normalized(drawn, base, objective.model))
    return directions


def moved(point: Point, direction: Point, alpha: float) -> dict[str, Tensor]:
    """``point + alpha · direction``, added in float64 and rounded once; α = 0 gives the point itself."""
    if alpha == 0:
        return dict(point)
    return {
        name: (tensor.double() + alpha * direction[name]).to(tensor.dtype) if name in direction else tensor
        for name, tensor in point.items()
    }
