"""``gradient``: the direction in which the float loss rises fastest."""

from __future__ import annotations

import torch

from quant_lens_engine.errors import InputError
from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class Gradient:
    """∇L/‖∇L‖ at the float parameters: at α = 0 the loss rises by ‖∇L‖ a unit."""

    description = "the gradient of the float loss, scaled to length 1"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[Steps, str, None]:  # noqa: ARG002
        """Of length 1."""
        gradient = around.gradient()
        size = float(gradient.norm(dtype=torch.float64))
        if not size:
            raise InputError(
                "the gradient is zero at the float parameters: it has no direction",
                hint="a self-distillation loss has its minimum there; choose eigenvector:1",
                code="bad_direction",
            )
        return around.shaped(gradient, 1 / size), "‖d‖ = 1", None


DIRECTIONS.add("gradient", Gradient())
