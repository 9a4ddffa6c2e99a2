"""``random``: Gaussian, each filter as long as the parameters' own (Li et al. 2018, arXiv:1712.09913)."""

from __future__ import annotations

from quant_lens_engine.filters import filter_layouts
from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.directions._drawn import gaussian
from quant_lens_engine.landscape.filter_normalization import as_long_by_filter
from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class RandomByFilter:
    """Rescaling a network before a normalisation does not change its picture along these."""

    description = "Gaussian, each filter as long as the parameters' own"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[Steps, str, None]:
        """Direction N of the seed."""
        base, layouts = around.base, filter_layouts(around.objective.model)
        steps = gaussian(around, name.number, lambda key, drawn: as_long_by_filter(drawn, base[key], layouts[key]))
        return steps, "‖d‖ = ‖θ‖ per filter", None


DIRECTIONS.add("random", RandomByFilter())
