"""Gaussian numbers of the float parameters' shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.objective.randomness import generator


def gaussian(around: Surroundings, number: int) -> dict[str, Tensor]:
    """Direction ``number`` of the seed, from 1: standard normal, float64, by parameter name.

    Drawn on the CPU, so that it is the same on every device, and independent of how many others are drawn.
    """
    source = generator(around.seed, "direction", number - 1)
    return {
        name: torch.randn(tensor.shape, generator=source, dtype=torch.float64).to(tensor.device)
        for name, tensor in around.base.items()
    }
