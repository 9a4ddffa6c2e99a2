"""``eigenvector:N``: the unit eigenvector of the Hessian's Nth largest eigenvalue at the float parameters."""

from __future__ import annotations

from torch import Tensor

from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class Eigenvector:
    """Along it the loss is L + ½ λ α² to second order: the line's curvature is the eigenvalue."""

    description = "the Hessian's Nth eigenvector at the float parameters, of length 1"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[dict[str, Tensor], str, None]:
        """Of length 1, with its largest component positive: an eigenvector has no sign of its own."""
        vector = around.eigenvector(name.number).double()
        vector = vector / vector.norm()
        largest = vector[vector.abs().argmax()]
        return around.shaped(vector * largest.sign()), "‖d‖ = 1", None


DIRECTIONS.add("eigenvector", Eigenvector())
