"""How far a line or a plane reaches: far enough to see the loss rise, not so far that nothing else is seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

EXPLODED = 10.0
"""Rises, in units of the one that ends a basin, that at half the way are too much: the basin would be a few points."""
_MOST_DOUBLINGS = 8
_MOST_HALVINGS = 12


class Reach(NamedTuple):
    """A distance, and how it was chosen, in a sentence."""

    distance: float
    sentence: str


class Rises(NamedTuple):
    """The smallest and the largest rise of the loss over the ends at one distance; infinite where it is not finite."""

    least: float
    most: float


def automatic_reach(rises_at: Callable[[float], Rises], rise: float, start: float = 1.0, floor: float = 0.0) -> Reach:
    """The distance at which the loss has risen by ``rise`` at every end, and not by far more half way there.

    Args:
        rises_at: the rises at a distance; asked at powers of two of ``start``.
        rise: of the loss that ends a basin: as much as the float loss, or 0.1 where that is near zero.
        start: tried first.
        floor: what must lie within it: it is never narrower.

    Example:
        >>> parabola = lambda distance: Rises(distance**2, distance**2)
        >>> automatic_reach(parabola, rise=3.0).distance, automatic_reach(parabola, rise=1e-4).distance
        (2.0, 0.0625)
    """
    start = max(start, floor)
    first = rises_at(start)
    if first.least < rise and math.isfinite(first.most):
        return _widened(rises_at, rise, start)
    return _narrowed(rises_at, rise, start, floor, first)


def _widened(rises_at: Callable[[float], Rises], rise: float, start: float) -> Reach:
    distance = start
    for _ in range(_MOST_DOUBLINGS):
        rises = rises_at(2 * distance)
        if not math.isfinite(rises.most):
            return Reach(distance, f"{distance:.3g}: farther out the loss is not finite")
        distance *= 2
        if rises.least >= rise:
            return Reach(distance, f"{_widened_to(start, distance)}, where the loss has risen by {rise:.3g}")
    return Reach(distance, f"{_widened_to(start, distance)}; the loss has not risen by {rise:.3g} even there")


def _widened_to(start: float, distance: float) -> str:
    return f"widened from {start:.3g} to {distance:.3g}"


def _narrowed(
    rises_at: Callable[[float], Rises], rise: float, start: float, floor: float, first: Rises
) -> Reach:  # fmt: skip
    distance, rises = start, first
    for _ in range(_MOST_HALVINGS):
        if distance / 2 < floor:
            break
        half = rises_at(distance / 2)
        if math.isfinite(rises.most) and half.least < EXPLODED * rise:
            break
        distance, rises = distance / 2, half
    narrowed = f"{distance:.3g}" if distance == start else f"narrowed from {start:.3g} to {distance:.3g}"
    if not math.isfinite(rises.most):
        return Reach(distance, f"{narrowed}: at its edge the loss is not finite")
    if distance == start:
        return Reach(distance, f"{narrowed}: within it the loss rises by {rise:.3g}")
    return Reach(distance, f"{narrowed}: the loss explodes beyond")
