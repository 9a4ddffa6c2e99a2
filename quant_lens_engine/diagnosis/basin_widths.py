"""Whether a variant's basin is narrower or wider than the float model's, beyond the spread over the directions.

Both were walked along the same directions, so widths are compared pair by pair: what a direction has of its own, which
is most of the spread of either width, falls out of the ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from quant_lens_engine.schema import BasinRatio, DirectionName, Line, Variant
from quant_lens_engine.schema.direction_name import DRAWN

CONFIDENCE = 0.95
FEWEST = 3
"""Directions below which Student's interval says nothing: with two, its factor is 12.7."""


def compare_basins(baseline: Variant, variant: Variant) -> BasinRatio | None:
    """Mean ratio of the widths, with Student's interval over the directions; None where no pair of widths is known.

    A width that is not known is that of a line that does not leave the basin: a wide one. To leave it out would bias
    the mean, so nothing is said of a difference where one of a pair is open. Only lines along random directions count.

    Example:
        >>> def measured(widths):
        ...     return Variant(name="", lines=[Line(landscape="smooth", basin_widths=widths)])
        >>> found = compare_basins(measured([1.0, 1.2, 0.9]), measured([0.5, 0.62, 0.43]))
        >>> round(found.ratio, 3), round(found.low, 3), round(found.high, 3), found.change
        (0.498, 0.45, 0.547, 'narrower')
    """
    before, after = smooth_line(baseline), smooth_line(variant)
    if before is None or after is None or before.direction != after.direction:
        return None
    if not _has_basin(before) or not _has_basin(after):
        return None
    pairs = list(zip(before.basin_widths, after.basin_widths, strict=False))
    ratios = [two / one for one, two in pairs if one is not None and two is not None and one > 0]
    beyond = sum(None in pair for pair in pairs)
    if not ratios and not beyond:
        return None
    mean = math.fsum(ratios) / len(ratios) if ratios else None
    found = BasinRatio(ratio=mean, directions=len(ratios), open_directions=beyond, confidence=CONFIDENCE)
    return found if mean is None or beyond or len(ratios) < FEWEST else _judged(found, ratios, mean)


def _judged(found: BasinRatio, ratios: Sequence[float], mean: float) -> BasinRatio:
    reach = _reach(ratios, mean)
    low, high = mean - reach, mean + reach
    change = "narrower" if high < 1 else "wider" if low > 1 else "alike"
    return found.model_copy(update={"low": low, "high": high, "change": change})


def _reach(ratios: Sequence[float], mean: float) -> float:
    from scipy.stats import t as student  # the web process reads the rules of verdicts, and needs no scipy for it

    error = math.sqrt(math.fsum((ratio - mean) ** 2 for ratio in ratios) / (len(ratios) - 1) / len(ratios))
    return float(student.ppf((1 + CONFIDENCE) / 2, len(ratios) - 1)) * error


def smooth_line(variant: Variant) -> Line | None:
    """The line that describes the basin: smooth, along directions that were drawn; filter-normalised ones first."""
    found = [line for line in variant.lines if line.landscape == "smooth" and _is_drawn(line)]
    return next((line for line in found if line.direction == "random"), found[0] if found else None)


def _has_basin(line: Line) -> bool:
    """Whether there is a loss at α = 0 to rise from."""
    return 0.0 not in line.alphas or line.loss[line.alphas.index(0.0)] is not None


def _is_drawn(line: Line) -> bool:
    return DirectionName.parse(line.direction).kind in DRAWN
