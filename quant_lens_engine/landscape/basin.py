"""How wide the basin around α = 0 is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

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


class Basin(NamedTuple):
    """Where a basin ends on each side of α = 0, as distances; None where the line does not leave it."""

    left: float | None
    right: float | None

    @property
    def width(self) -> float | None:
        """Of both halves; None where one of them is open."""
        return None if self.left is None or self.right is None else self.left + self.right

    @property
    def asymmetry(self) -> float | None:
        """(right − left) / (right + left), −1 to 1; 0 is symmetric.

        Example:
            >>> Basin(1.0, 3.0).asymmetry
            0.5
        """
        if self.left is None or self.right is None or not self.left + self.right:
            return None
        return (self.right - self.left) / (self.right + self.left)


def find_basin(alphas: Sequence[float], losses: Sequence[float | None], rise: float) -> Basin:
    """Where the loss has risen by ``rise`` above its value at α = 0, on either side.

    Crossings are interpolated linearly. A missing loss ends the basin at its last finite point; where that at α = 0 is
    missing there is no basin.

    Args:
        alphas: ascending grid with 0 in it.
        losses: of the same length.
        rise: in loss units.
    """
    centre = list(alphas).index(0.0)
    start = losses[centre]
    if start is None or not math.isfinite(start):
        return Basin(None, None)
    left = _crossing(alphas, losses, range(centre, -1, -1), start + rise)
    right = _crossing(alphas, losses, range(centre, len(alphas)), start + rise)
    return Basin(None if left is None else -left, right)


def basin_width(alphas: Sequence[float], losses: Sequence[float | None], rise: float) -> float | None:
    """The width in α, around α = 0, over which the loss stays below its value there plus ``rise``.

    None where the line does not leave the basin on both sides within the grid; see :func:`find_basin`.

    Example:
        >>> basin_width([-1.0, 0.0, 1.0], [1.0, 0.0, 1.0], rise=0.5)
        1.0
    """
    return find_basin(alphas, losses, rise).width


def _crossing(alphas: Sequence[float], losses: Sequence[float | None], path: range, level: float) -> float | None:
    for here, there in itertools.pairwise(path):
        inner, outer = losses[here], losses[there]
        if inner is None or outer is None:
            return alphas[here]
        if outer > level:
            share = (level - inner) / (outer - inner)
            return alphas[here] + share * (alphas[there] - alphas[here])
    return None
