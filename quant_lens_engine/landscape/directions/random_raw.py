"""``random-raw``: Gaussian, as it is drawn."""

from __future__ import annotations

from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.directions._drawn import gaussian
from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class RandomRaw:
    """Biases and normalisation move too; a rescaled network gives another picture. For comparison with older ones."""

    description = "Gaussian, not normalised: every parameter moves by a standard normal number"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[Steps, str, None]:
        """Direction N of the seed: the same draw as ``random:N``."""
        return gaussian(around, name.number), "standard normal steps", None


DIRECTIONS.add("random-raw", RandomRaw())
