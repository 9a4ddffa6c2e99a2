"""ε-sharpness: how much the loss can rise within a small radius."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

EPSILON = 0.1
"""Of the grid's distance: a tenth of what is drawn."""


def epsilon_sharpness(
    alphas: Sequence[float], per_direction: Sequence[Sequence[float | None]], epsilon: float
) -> float | None:
    """100 · max(L(α) − L(0)) / (1 + L(0)) over |α| ≤ ε and the directions, in percent.

    Keskar et al. 2017 (arXiv:1609.04836) maximise over a box; here over the directions that were measured, so it is a
    lower bound of theirs. Between grid points the loss is interpolated linearly.

    Args:
        alphas: ascending grid with 0 in it.
        per_direction: the loss, ``[direction][alpha]``.
        epsilon: the radius, in α.

    Example:
        >>> epsilon_sharpness([-1.0, 0.0, 1.0], [[4.0, 1.0, 3.0]], epsilon=0.5)
        75.0
    """
    rises = [rise for losses in per_direction for rise in _rises(alphas, losses, epsilon)]
    return 100 * max(rises) if rises else None


def _rises(alphas: Sequence[float], losses: Sequence[float | None], epsilon: float) -> list[float]:
    known = [(alpha, loss) for alpha, loss in zip(alphas, losses, strict=True) if loss is not None]
    start = next((loss for alpha, loss in known if alpha == 0), None)
    if start is None:
        return []
    inside = [loss for alpha, loss in known if abs(alpha) <= epsilon]
    for (left, low), (right, high) in itertools.pairwise(known):
        inside += [
            low + (high - low) * (edge - left) / (right - left) for edge in (-epsilon, epsilon) if left < edge < right
        ]
    return [(loss - start) / (1 + start) for loss in inside]
