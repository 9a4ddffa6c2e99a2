"""``random``: Gaussian, each filter as long as the parameters' own (Li et al. 2018, arXiv:1712.09913)."""

from __future__ import annotations

from torch import Tensor

from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.directions._drawn import gaussian
from quant_lens_engine.landscape.filter_normalization import filter_normalized
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class RandomByFilter:
    """Rescaling a network before a normalisation does not change its picture along these."""

    description = "Gaussian, each filter as long as the parameters' own"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[dict[str, Tensor], str, None]:
        """Direction N of the seed."""
        drawn = gaussian(around, name.number)
        return filter_normalized(drawn, around.base, around.objective.model), "‖d‖ = ‖θ‖ per filter", None


DIRECTIONS.add("random", RandomByFilter())
