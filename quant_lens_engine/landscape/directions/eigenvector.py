"""``eigenvector:N``: the unit eigenvector of the Hessian's Nth largest eigenvalue at the float parameters."""

from __future__ import annotations

import torch

from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class Eigenvector:
    """Along it the loss is L + ½ λ α² to second order: the line's curvature is the eigenvalue."""

    description = "the Hessian's Nth eigenvector at the float parameters, of length 1"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[Steps, str, None]:
        """Of length 1, with its largest component positive: an eigenvector has no sign of its own."""
        vector = around.eigenvector(name.number)
        above, below = float(vector.max()), -float(vector.min())
        is_up = bool(vector.argmax() < vector.argmin()) if above == below else above > below
        size = float(vector.norm(dtype=torch.float64))
        return around.shaped(vector, (1 if is_up else -1) / size), "‖d‖ = 1", None


DIRECTIONS.add("eigenvector", Eigenvector())
