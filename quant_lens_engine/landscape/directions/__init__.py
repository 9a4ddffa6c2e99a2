"""Directions through parameter space, one file a kind; each registers itself under the name that a specification says.

A direction depends on the float parameters, the seed and its name, never on the variant that moves along it (but for
``path`` and ``error``, which are a variant's own), so every variant of a run moves along the same ones.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from quant_lens_engine.errors import InputError
from quant_lens_engine.landscape.surroundings import Surroundings, length
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.registry import Registry, load_rooms
from quant_lens_engine.schema import DirectionName


@dataclass(frozen=True)
class Direction:
    """A direction: what is added to the parameters at α = 1.

    Attributes:
        name: as a specification says it.
        steps: float64 tensors by parameter name, made anew whenever they are asked for; parameters that are left out
            stay.
        unit: what α = 1 is, in words.
        end: the model at α = 1 from the float parameters, where the direction leads to one: digit for digit. A dict of
            its own, whose tensors may be others'.
    """

    name: str
    steps: Mapping[str, Tensor]
    unit: str
    end: dict[str, Tensor] | None = None

    def release(self, name: str) -> None:
        """That tensor of the model is no longer needed: its memory is free where nobody else holds it."""
        if self.end is not None:
            self.end.pop(name, None)


class DirectionKind(Protocol):
    """Makes directions of one kind, and says in one line what they are."""

    description: str

    def __call__(
        self, around: Surroundings, name: DirectionName
    ) -> tuple[Mapping[str, Tensor], str, dict[str, Tensor] | None]:
        """Steps, what α = 1 is, and the model at α = 1 if there is one; see :class:`Direction`."""


DIRECTIONS: Registry[DirectionKind] = Registry("direction")


def make_direction(name: str, around: Surroundings) -> Direction:
    """The direction of that name.

    Raises:
        InputError: ``unknown_direction``; ``bad_direction``: its argument says nothing, or it leads nowhere.

    Example:
        >>> import torch
        >>> objective = Objective(torch.nn.Linear(2, 1), [(torch.eye(2), torch.zeros(2, 1))], task="regression")
        >>> sorted(make_direction("random:2", Surroundings(objective)).steps)
        ['bias', 'weight']
    """
    try:
        parsed = DirectionName.parse(name)
        steps, unit, end = DIRECTIONS[parsed.kind](around, parsed)
    except ValueError as error:
        raise InputError(str(error), code="bad_direction") from None
    if not length(steps):
        raise InputError(
            f"the direction {name!r} leads nowhere: every step of it is 0",
            hint="a variant that rounds nothing has no error to walk along; a model of vectors alone has no filters",
            code="bad_direction",
        )
    return Direction(name, steps, unit, end)


def random_directions(objective: Objective, base_point: Point, count: int, seed: int) -> list[dict[str, Tensor]]:
    """``count`` filter-normalised Gaussian directions at ``base_point``, the float parameters.

    They depend on the float parameters and the seed alone; direction i is the same however many are drawn. Only free
    parameters move; a tied tensor moves once.

    Args:
        objective: of the model.
        base_point: the float parameters.
        count: how many.
        seed: of the run.

    Returns:
        for each direction float64 tensors on the objective's device, by parameter name.
    """
    around = Surroundings(objective.at(base_point), seed)
    kind = DIRECTIONS["random"]
    return [dict(kind(around, DirectionName("random", str(number)))[0]) for number in range(1, count + 1)]


load_rooms(sys.modules[__name__])
