"""How many calibration rows there will be, and whether they are measured too: for the draw and for a page."""

from __future__ import annotations

from typing import NamedTuple

FEWEST_CALIBRATION_ROWS = 32
"""Fewer rows than this (or than are asked for) say too little of activations: those of the evaluation are used too."""


class CalibrationPlan(NamedTuple):
    """How many ``rows`` are drawn, from a ``pool`` of how many; ``overlap``: the pool holds rows that are measured."""

    rows: int
    pool: int
    overlap: bool


def plan_calibration(available: int, wanted: int, evaluated: int | None) -> CalibrationPlan:
    """The draw of calibration rows.

    Args:
        available: rows in the file.
        wanted: at most so many.
        evaluated: how many rows of the same file are measured; None where it is another file.

    Example:
        >>> plan_calibration(1797, 256, 1024)
        CalibrationPlan(rows=256, pool=773, overlap=False)
        >>> plan_calibration(60, 40, 50).overlap  # ten others are too few
        True
    """
    free = available - (evaluated or 0)
    overlap = evaluated is not None and free < min(wanted, FEWEST_CALIBRATION_ROWS)
    pool = available if overlap else free
    return CalibrationPlan(min(wanted, pool), pool, overlap)
