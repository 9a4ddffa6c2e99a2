"""Whether there is a wall between two models."""

from __future__ import annotations

from collections.abc import Sequence


def barrier(alphas: Sequence[float], losses: Sequence[float | None]) -> float | None:
    """The largest rise above the straight line between the losses at α = 0 and α = 1, over the grid within.

    The error barrier of linear mode connectivity (Frankle et al. 2020, arXiv:1912.05671), in units of the loss; 0
    where the loss never rises above that line; None where an end, or all between, is missing.

    Args:
        alphas: a grid with 0 and 1 in it.
        losses: of the same length.

    Example:
        >>> barrier([0.0, 0.5, 1.0], [1.0, 4.0, 3.0]), barrier([0.0, 0.5, 1.0], [1.0, 1.0, 3.0])
        (2.0, 0.0)
    """
    known = {alpha: loss for alpha, loss in zip(alphas, losses, strict=True) if loss is not None}
    start, end = known.get(0.0), known.get(1.0)
    within = {alpha: loss for alpha, loss in known.items() if 0 < alpha < 1}
    if start is None or end is None or not within:
        return None
    return max(0.0, *(loss - ((1 - alpha) * start + alpha * end) for alpha, loss in within.items()))
