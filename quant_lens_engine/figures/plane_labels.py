"""Where labels stand on a plane: boxes with leaders beside points, and the words on isolines; none covers another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from quant_lens_engine.figures.plane_grid import Grid

_BOX_HEIGHT, _LETTER = 22.0, 6.6
_ANGLES = 24
_RADII = (44.0, 62.0, 84.0, 110.0, 140.0, 175.0)


class Box(NamedTuple):
    """In pixels: centre and half of width and height; y downwards."""

    x: float
    y: float
    half_width: float
    half_height: float

    def overlaps(self, other: Box, gap: float = 3.0) -> bool:
        """Whether two boxes come nearer than ``gap``."""
        return (
            abs(self.x - other.x) < self.half_width + other.half_width + gap
            and abs(self.y - other.y) < self.half_height + other.half_height + gap
        )

    def crosses(self, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """Whether a leader runs through the box."""
        steps = (0.15 + 0.07 * k for k in range(11))
        return any(
            self.overlaps(Box(start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1]), 1, 1), 0)
            for t in steps
        )


@dataclass(frozen=True)
class PlacedLabel:
    """A label's shift from its point, in pixels; y downwards."""

    ax: float
    ay: float
    box: Box


def place_labels(
    points: Sequence[tuple[float, float]], letters: Sequence[int], side: tuple[float, float]
) -> list[PlacedLabel | None]:
    """A place for the label of each point, away from every point, label and leader; None where there is no room.

    Args:
        points: in pixels, y downwards.
        letters: of each label.
        side: width and height of the plot in pixels.

    Example:
        >>> [one, two] = place_labels([(200, 200), (205, 200)], [12, 12], (400, 400))
        >>> one.box.overlaps(two.box)
        False
    """
    placed: list[PlacedLabel | None] = []
    leaders: list[tuple[tuple[float, float], tuple[float, float]]] = []
    middle = (
        (sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)) if points else (0.0, 0.0)
    )
    for index, ((x, y), count) in enumerate(zip(points, letters, strict=True)):
        away = math.atan2(y - middle[1], x - middle[0]) if math.dist((x, y), middle) > 2 else -2.2 + 1.9 * index
        found = next(
            (
                PlacedLabel(box.x - x, box.y - y, box)
                for box in _candidates(x, y, away, count)
                if _fits(box, (x, y), points, placed, leaders, side)
            ),
            None,
        )
        placed.append(found)
        if found:
            leaders.append(((x, y), (found.box.x, found.box.y)))
    return placed


def _candidates(x: float, y: float, away: float, letters: int) -> Iterator[Box]:
    width = _LETTER * letters / 2 + 7
    for radius in _RADII:
        for step in range(_ANGLES):
            turn = (step + 1) // 2 * (1 if step % 2 else -1) * 2 * math.pi / _ANGLES
            angle = away + turn
            along = (radius + 0.7 * width) * math.cos(angle)
            yield Box(x + along, y + radius * math.sin(angle), width, _BOX_HEIGHT / 2)


def _fits(
    box: Box,
    point: tuple[float, float],
    points: Sequence[tuple[float, float]],
    placed: Sequence[PlacedLabel | None],
    leaders: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    side: tuple[float, float],
) -> bool:
    inside = (
        box.half_width + 4 <= box.x <= side[0] - box.half_width - 4
        and box.half_height + 4 <= box.y <= side[1] - box.half_height - 4
    )
    return (
        inside
        and not any(box.overlaps(Box(px, py, 7, 7)) for px, py in points)
        and not any(label and (box.overlaps(label.box) or label.box.crosses(point, (box.x, box.y))) for label in placed)
        and not any(box.crosses(start, end) for start, end in leaders)
    )


class Crossing(NamedTuple):
    """Where an isoline crosses a grid line: shares of the axes, 0 to 1 from the lower left."""

    x: float
    y: float


def isoline_spots(
    places: Grid, levels: Sequence[float], taken: Sequence[Box], side: tuple[float, float]
) -> dict[float, Crossing]:
    """One spot a level for its word: on the isoline, within the plot, clear of boxes and of each other.

    Args:
        places: ``[alpha][beta]`` on the colour scale.
        levels: of the isolines, on the same scale.
        taken: boxes in pixels, y downwards.
        side: of the plot in pixels.
    """
    boxes = list(taken)
    spots: dict[float, Crossing] = {}
    for level in levels:
        best: tuple[float, Crossing, Box] | None = None
        for crossing in _crossings(places, level):
            box = Box(crossing.x * side[0], (1 - crossing.y) * side[1], 18, 8)
            margin = min(crossing.x, 1 - crossing.x, crossing.y, 1 - crossing.y)
            if margin < 0.06 or any(box.overlaps(other, 4) for other in boxes):
                continue
            # Below the middle, as on a map; a little to the right.
            score = (crossing.y - 0.1) ** 2 + 0.6 * (crossing.x - 0.62) ** 2
            if best is None or score < best[0]:
                best = (score, crossing, box)
        if best is not None:
            spots[level] = best[1]
            boxes.append(best[2])
    return spots


def _crossings(places: Grid, level: float) -> Iterator[Crossing]:
    columns, rows = len(places) - 1, len(places[0]) - 1 if places else 0
    for index in range(1, columns):
        column = places[index]
        for place in range(rows):
            one, two = column[place], column[place + 1]
            if one is not None and two is not None and (one - level) * (two - level) < 0:
                share = (level - one) / (two - one)
                yield Crossing(index / columns, (place + share) / rows)
