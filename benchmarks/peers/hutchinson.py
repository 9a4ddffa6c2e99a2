"""How many probes Hutchinson's estimator needs, from the spread of a few."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from benchmarks.peers.answer import Answer

PROBES = 24
"""Whose spread says how many are needed."""


RELATIVE_ERRORS = (0.02, 0.01)
"""Standard errors of a trace that are asked for, the easier one first."""


def hutchinson(run: Callable[[int], Answer], really: bool) -> Iterator[Answer]:
    """Answers with these standard errors.

    Args:
        run: takes so many probes; the answer's value is each one's vᵀHv.
        really: take all of the probes that are needed; else their cost follows from that of a few.
    """
    few = run(PROBES)
    for relative_error in RELATIVE_ERRORS:
        needed = _needed(few.value, relative_error)
        if really:
            seen = run(needed)
            samples = np.asarray(seen.value)
            error = float(samples.std(ddof=1)) / math.sqrt(len(samples))
            yield replace(
                seen, value=float(samples.mean()), standard_error=error, setting=f"Hutchinson, {needed} probes"
            )
        else:
            yield _extrapolated(few, needed, relative_error)


def _extrapolated(few: Answer, needed: int, relative_error: float) -> Answer:
    mean, share = float(np.mean(few.value)), needed / PROBES
    return replace(
        few,
        value=mean,
        cpu_s=share * few.cpu_s,
        inside_s=None if few.inside_s is None else share * few.inside_s,
        products=needed,
        setting=f"Hutchinson, {needed} probes",
        standard_error=relative_error * abs(mean),
        note=f"extrapolated from {PROBES} probes",
    )


def _needed(samples: np.ndarray, relative_error: float) -> int:
    return max(2, math.ceil((float(np.std(samples, ddof=1)) / (relative_error * float(np.mean(samples)))) ** 2))
