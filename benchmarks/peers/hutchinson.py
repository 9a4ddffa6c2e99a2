"""How many probes Hutchinson's estimator needs, from the spread of a few."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from benchmarks.peers.answer import Answer

PROBES = 24
"""Whose spread says how many are needed."""


def hutchinson(run: Callable[[int], Answer], relative_error: float, really: bool) -> Iterator[Answer]:
    """The answer that has the standard error.

    Args:
        run: takes so many probes; the answer's value is each one's vᵀHv.
        relative_error: of the standard error to the trace.
        really: take all of the probes that are needed; else their cost follows from that of a few.
    """
    seen = run(PROBES)
    needed = _needed(seen.value, relative_error)
    if really or needed <= PROBES:
        seen = run(needed)
        samples = np.asarray(seen.value)
        error = float(samples.std(ddof=1)) / math.sqrt(len(samples))
        yield replace(seen, value=float(samples.mean()), standard_error=error, setting=f"Hutchinson, {needed} probes")
        return
    mean, share = float(np.mean(seen.value)), needed / PROBES
    yield replace(
        seen,
        value=mean,
        cpu_s=share * seen.cpu_s,
        inside_s=None if seen.inside_s is None else share * seen.inside_s,
        products=needed,
        setting=f"Hutchinson, {needed} probes",
        standard_error=relative_error * abs(mean),
        note=f"extrapolated from {PROBES} probes",
    )


def _needed(samples: np.ndarray, relative_error: float) -> int:
    return max(2, math.ceil((float(np.std(samples, ddof=1)) / (relative_error * float(np.mean(samples)))) ** 2))
