"""The spectral density: the distance to the exact spectrum, and what a peer needs to come as near."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.peers.answer import Answer, CappedError, at_most
from benchmarks.peers.library import Library
from benchmarks.peers.parts import Row, summary
from benchmarks.peers.reference import Truth
from benchmarks.peers.workloads import Workload

SEEDS = range(4)
"""One run's distance is a matter of luck: the mean over these counts."""

PARTS = ("density", "density, our default")


def densities(workload: Workload, libraries: Sequence[Library], truth: Truth, others: Mapping[str, float]) -> list[Row]:
    """Ours in one long process, and at its defaults; of the peers the cheapest setting that is no further away, also
    than the distances of ``others``, by part."""
    own = next(library for library in libraries if library.ours)
    rows = [
        _row(workload, part, own, answers, truth)
        for part, answers in zip(PARTS, zip(*(own.density(workload, seed) for seed in SEEDS), strict=True), strict=True)
    ]
    goals = {row.part: row.error or 0.0 for row in rows} | dict(others)
    for library in libraries:
        if not library.ours and not library.lacks("density"):
            rows += _as_near(workload, library, truth, goals)
    return rows


def _as_near(workload: Workload, library: Library, truth: Truth, goals: dict[str, float]) -> list[Row]:
    found: dict[str, Row] = {}
    status, note = "misses", ""
    try:
        with at_most(len(SEEDS) * workload.cap_s):
            for answers in zip(*(library.density(workload, seed) for seed in SEEDS), strict=True):
                row = _row(workload, "", library, answers, truth)
                for part in goals.keys() - found.keys():
                    if (row.error or 0.0) <= goals[part]:
                        found[part] = replace(row, part=part)
                if len(found) == len(goals):
                    break
    except CappedError as error:
        status, note = "capped", str(error)
    except Exception as error:
        status, note = "crashes", f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    return [found.get(part, Row(workload.name, part, library.name, status, note=note)) for part in goals]


def _row(workload: Workload, part: str, library: Library, answers: Sequence[Answer], truth: Truth) -> Row:
    distance = statistics.fmean(truth.wasserstein(*answer.value) for answer in answers)
    row = summary(Row(workload.name, part, library.name, "reaches"), list(answers), lambda _: 0.0)
    return replace(row, error=distance)
