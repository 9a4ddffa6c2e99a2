"""``random-layer``: Gaussian, each weight tensor as long as the parameter's own."""

from __future__ import annotations

from torch import Tensor

from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.directions._drawn import gaussian
from quant_lens_engine.landscape.filter_normalization import layer_normalized
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class RandomByLayer:
    """Coarser than by filter: a rescaling within a layer shows."""

    description = "Gaussian, each layer's weight as long as its own"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[dict[str, Tensor], str, None]:
        """Direction N of the seed: the same draw as ``random:N``."""
        return layer_normalized(gaussian(around, name.number), around.base), "‖d‖ = ‖θ‖ per layer", None


DIRECTIONS.add("random-layer", RandomByLayer())
