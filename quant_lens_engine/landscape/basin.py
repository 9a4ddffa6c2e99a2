"""How wide the basin around α = 0 is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

SMALL_LOSS = 0.01
ABSOLUTE_RISE = 0.1


def basin_rise(float_loss: float) -> float:
    """The rise that ends a basin: the float model's loss again (the loss doubles), or 0.1 where that is below 0.01.

    It is the same for every variant of a run, so widths can be compared.

    Example:
        >>> basin_rise(0.5), basin_rise(0.001)
        (0.5, 0.1)
    """
    return ABSOLUTE_RISE if float_loss < SMALL_LOSS else float_loss


def basin_width(alphas: Sequence[float], losses: Sequence[float | None], rise: float) -> float | None:
    """The width in α, around α = 0, over which the loss stays below its value at α = 0 plus ``rise``.

    Crossings are interpolated linearly. Where the line does not leave the basin on both sides within the grid, or
    the loss at α = 0 is missing, the width is None; a missing loss elsewhere ends the basin at its last finite point.

    Args:
        alphas: ascending grid with 0 in it.
        losses: of the same length.
        rise: in loss units.

    Example:
        >>> basin_width([-1.0, 0.0, 1.0], [1.0, 0.0, 1.0], rise=0.5)
        1.0
    """
    centre = list(alphas).index(0.0)
    start = losses[centre]
    if start is None or not math.isfinite(start):
        return None
    edges = [
        _crossing(alphas, losses, range(centre, -1, -1), start + rise),
        _crossing(alphas, losses, range(centre, len(alphas)), start + rise),
    ]
    left, right = edges
    return None if left is None or right is None else right - left


def _crossing(alphas: Sequence[float], losses: Sequence[float | None], path: range, level: float) -> float | None:
    for here, there in itertools.pairwise(path):
        inner, outer = losses[here], losses[there]
        if inner is None or outer is None:
            return alphas[here]
        if outer > level:
            share = (level - inner) / (outer - inner)
            return alphas[here] + share * (alphas[there] - alphas[here])
    return None
