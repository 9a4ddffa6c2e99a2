"""Whether directions of one name in two runs are one direction: a name alone does not say of which weights it is."""

from __future__ import annotations

from quant_lens_engine.figures.plane_grid import direction_words
from quant_lens_engine.schema import Plane, RunResult
from quant_lens_engine.schema.direction_name import DRAWN, DirectionName

_OF_THE_LOSS = frozenset({"gradient", "eigenvector"})
"""Kinds that depend on the data, too."""
_NEAR = 1e-6


def directions_differ(one: RunResult, plane: Plane, two: RunResult, other: Plane) -> str:
    """Why planes along directions of the same names are other planes; empty where nothing speaks against one.

    Networks of other parameters have none in common. Drawn directions are the same where the seed is; those that follow
    from the weights where the checkpoint is; those that follow from the loss where the data are, too, and the rows that
    the seed drew of them. A direction to a variant is the same only where that variant is: where both planes have its
    point, in one place.
    """
    if (one.model.architecture, one.model.parameters) != (two.model.architecture, two.model.parameters):
        return "its network is another, of other parameters"
    for name in plane.directions:
        kind = DirectionName.parse(name).kind
        if kind in DRAWN:
            if one.seed != two.seed:
                return "its random directions come from another seed"
            continue
        if one.model.sha256 != two.model.sha256:
            return f"its direction {direction_words(name)} is of another checkpoint"
        if kind in _OF_THE_LOSS and _data(one) != _data(two):
            return f"its direction {direction_words(name)} is of other data"
        if kind in _OF_THE_LOSS and _draw(one) != _draw(two):
            return f"its direction {direction_words(name)} is of other rows: another seed drew them"
    for point in plane.points:
        twin = next((item for item in other.points if item.name == point.name), None)
        if twin and any(DirectionName.parse(name).argument == point.name for name in plane.directions):
            apart = max(abs(point.alpha - twin.alpha), abs(point.beta - twin.beta), abs(point.distance - twin.distance))
            if apart > _NEAR:
                return f"its {point.name} is another model than the baseline's"
    return ""


def _data(result: RunResult) -> tuple[object, ...]:
    return result.data.sha256, result.data.samples


def _draw(result: RunResult) -> int | None:
    """The seed that chose the rows; None where all of them are measured, or it is not known that some are not."""
    samples, available = result.data.samples, result.data.available
    return result.seed if samples is not None and available is not None and samples < available else None
