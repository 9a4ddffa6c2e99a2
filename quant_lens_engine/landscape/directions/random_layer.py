"""``random-layer``: Gaussian, each weight tensor as long as the parameter's own."""

from __future__ import annotations

from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.directions._drawn import gaussian
from quant_lens_engine.landscape.filter_normalization import as_long
from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class RandomByLayer:
    """Coarser than by filter: a rescaling within a layer shows."""

    description = "Gaussian, each layer's weight as long as its own"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[Steps, str, None]:
        """Direction N of the seed: the same draw as ``random:N``."""
        base = around.base
        steps = gaussian(around, name.number, lambda key, drawn: as_long(drawn, base[key]))
        return steps, "‖d‖ = ‖θ‖ per layer", None


DIRECTIONS.add("random-layer", RandomByLayer())
