"""How far the deployed staircase strays from the smooth curve."""

from __future__ import annotations

import math
from collections.abc import Sequence


def roughness(deployed: Sequence[Sequence[float | None]], smooth: Sequence[Sequence[float | None]]) -> float | None:
    """Root mean square of deployed − smooth over grid and directions, in units of the loss.

    At α = 0 both are the variant's loss, so what remains is what rounding anew does along the way. Points that either
    lacks are left out.

    Args:
        deployed: ``[direction][alpha]``.
        smooth: the same.

    Example:
        >>> roughness([[1.0, 0.0, 2.0]], [[1.0, 0.0, 1.0]])
        0.5773502691896257
    """
    pairs = [pair for one, two in zip(deployed, smooth, strict=True) for pair in zip(one, two, strict=True)]
    squares = [(one - two) ** 2 for one, two in pairs if one is not None and two is not None]
    return math.sqrt(math.fsum(squares) / len(squares)) if squares else None
