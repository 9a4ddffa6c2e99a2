"""``checkpoint:N``: from the float parameters to another checkpoint of the same training."""

from __future__ import annotations

from torch import Tensor

from quant_lens_engine.errors import InputError
from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.schema import DirectionName


class ToCheckpoint:
    """w_N − w, whatever moved between the two, biases and normalisation included."""

    description = "from FP32 to the Nth further checkpoint of the run"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[Steps, str, dict[str, Tensor] | None]:
        """Not normalised: α = 1 is the checkpoint."""
        if name.number > len(around.checkpoints):
            raise InputError(
                f"the run has {len(around.checkpoints)} further checkpoints: there is no {name}",
                hint="name them in model.checkpoints",
                code="bad_direction",
            )
        end = dict(around.checkpoints[name.number - 1])
        return around.steps_to(end), f"FP32 → checkpoint {name.number}", end


DIRECTIONS.add("checkpoint", ToCheckpoint())
