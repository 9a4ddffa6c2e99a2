"""Points between the measured ones of a smooth positive curve, where an axis pulls neighbours far apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def refined(
    x: Sequence[float], y: Sequence[float], place: Callable[[float], float], widest: float
) -> tuple[list[float], list[float]]:
    """The curve with points added where neighbours would stand more than ``widest`` apart.

    They lie on the cubic through the logarithms of four neighbours (Catmull and Rom 1974): exact for a Gaussian. Beside
    a zero, and at both ends, nothing is added.

    Args:
        x: ascending, at even distances.
        y: the measured values.
        place: from x to its coordinate on the axis.
        widest: in those coordinates.

    Example:
        >>> x = [-1.5, -0.5, 0.5, 1.5]
        >>> xs, ys = refined(x, [math.exp(-v * v) for v in x], lambda v: v, 0.5)
        >>> xs[2], round(ys[2], 9)
        (0.0, 1.0)
    """
    xs, ys = list(x[:1]), list(y[:1])
    for i in range(len(x) - 1):
        around = y[max(i - 1, 0) : i + 3]
        parts = math.ceil((place(x[i + 1]) - place(x[i])) / widest)
        if parts > 1 and i > 0 and len(around) == 4 and min(around) > 0:
            logs = [math.log(value) for value in around]
            for part in range(1, parts):
                at = part / parts
                xs.append(x[i] + at * (x[i + 1] - x[i]))
                ys.append(math.exp(_cubic(logs, at)))
        xs.append(x[i + 1])
        ys.append(y[i + 1])
    return xs, ys


def _cubic(logs: Sequence[float], at: float) -> float:
    before, start, end, after = logs
    slope, bend = end - before, 2 * before - 5 * start + 4 * end - after
    return start + 0.5 * at * (slope + at * (bend + at * (3 * (start - end) + after - before)))
