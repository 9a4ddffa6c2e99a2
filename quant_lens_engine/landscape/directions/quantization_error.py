"""``error`` and ``path``: a variant's own quantization error Q(w) − w, from the variant on, or from FP32 to it."""

from __future__ import annotations

from torch import Tensor

from quant_lens_engine.errors import InputError
from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class QuantizationError:
    """Q(w) − w of the variant whose line it is."""

    def __init__(self, description: str) -> None:
        self.description = description

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[Steps, str, dict[str, Tensor] | None]:
        """Not normalised: from FP32, α = 1 is the variant."""
        if around.own is None:
            raise InputError(f"the float model has no {name.kind}: nothing of it is rounded", code="bad_direction")
        return around.steps_to(around.own), "FP32 → variant", dict(around.own)


DIRECTIONS.add("error", QuantizationError("the variant's quantization error Q(w) − w, around the variant"))
DIRECTIONS.add("path", QuantizationError("the line from FP32 to the variant"))
