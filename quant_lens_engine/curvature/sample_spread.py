"""What an eigenvalue owes to the sample: its Rayleigh quotient on parts of the data."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from quant_lens_engine.curvature.hessian_products import HessianProducts
from quant_lens_engine.curvature.krylov import products_with
from quant_lens_engine.errors import DataError
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.randomness import generator
from quant_lens_engine.schema.curvature import SHARDS


class SpreadOverShards(NamedTuple):
    """For each vector v: the whole sample's ‖Hv − (vᵀHv)v‖, and the standard deviation of vᵀH_s v over the shards."""

    residuals: list[float]
    deviations: list[float | None]


def spread_over_shards(
    objective: Objective,
    vectors: Tensor,
    *,
    seed: int,
    products: Callable[[Objective], HessianProducts],
) -> SpreadOverShards:
    """How vᵀH_s v varies over eight equal random shards s of the sample, at the whole sample's v.

    The shards' products add up to the whole sample's, so the residual comes from the same pass.

    Args:
        objective: at the point of interest.
        vectors: unit vectors ``(k, dimension)``.
        seed: of the division into shards, the same for every variant.
        products: the Hessian of a part of the sample.
    """
    rows = torch.randperm(objective.samples, generator=generator(seed, "shards"))
    quotients: list[list[float]] = [[] for _ in vectors]
    total, weight = torch.zeros_like(vectors), 0.0
    for shard in rows.tensor_split(min(SHARDS, objective.samples)):
        operator = products(objective.select(shard.sort().values))
        try:
            images = products_with(operator, vectors)
        except DataError:  # no row of this shard counts: it has no part in the whole
            continue
        for found, quotient in zip(quotients, (vectors * images).sum(1).tolist(), strict=True):
            found.append(quotient)
        total += images * operator.weight
        weight += operator.weight
    images = total / weight
    values = (images * vectors).sum(1, keepdim=True)
    residuals = torch.linalg.vector_norm(images - values * vectors, dim=1)
    return SpreadOverShards(
        [float(residual) for residual in residuals],
        [statistics.stdev(values) if len(values) == SHARDS else None for values in quotients],
    )
