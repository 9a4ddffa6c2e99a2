"""``to:NAME``: from the float parameters to a variant's dequantized ones."""

from __future__ import annotations

from torch import Tensor

from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class ToVariant:
    """Q(w) − w of a named variant of the run."""

    description = "from FP32 to a variant of the run"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[Steps, str, dict[str, Tensor] | None]:
        """Not normalised: α = 1 is the variant."""
        end = dict(around.point_of(name.argument))
        return around.steps_to(end), f"FP32 → {name.argument}", end


DIRECTIONS.add("to", ToVariant())
