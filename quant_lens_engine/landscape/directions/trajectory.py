"""``pca:N``: the Nth principal component of a training trajectory, seen from its end."""

from __future__ import annotations

import torch

from quant_lens_engine.errors import InputError
from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings, inner
from quant_lens_engine.schema import DirectionName


class TrajectoryComponent:
    """Of the differences w_i − w between the checkpoints and the float parameters (Li et al. 2018, section 7)."""

    description = "the Nth principal component of the run's checkpoints, of length 1"

    def __call__(self, around: Surroundings, name: DirectionName) -> tuple[Steps, str, None]:
        """Of length 1. The components come from the (checkpoints × checkpoints) Gram matrix: no other copy is made."""
        differences = [around.steps_to(point) for point in around.checkpoints]
        if name.number > len(differences):
            raise InputError(
                f"{len(differences)} further checkpoints have no component {name.number}",
                hint="name at least as many in model.checkpoints",
                code="bad_direction",
            )
        gram = torch.tensor([[inner(one, two) for two in differences] for one in differences], dtype=torch.float64)
        values, vectors = torch.linalg.eigh(gram)
        value, weights = values[-name.number], vectors[:, -name.number]
        if float(value) <= 1e-12 * float(values[-1]):
            raise InputError(f"the checkpoints span fewer than {name.number} directions", code="bad_direction")
        weights = weights * weights[weights.abs().argmax()].sign() / value.sqrt()
        parts = list(zip(weights, differences, strict=True))
        names = dict.fromkeys(key for one in differences for key in one)
        steps = Steps(names, lambda key: torch.stack([weight * one[key] for weight, one in parts if key in one]).sum(0))
        return steps, "‖d‖ = 1", None


DIRECTIONS.add("pca", TrajectoryComponent())
