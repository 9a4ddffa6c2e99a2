"""Each part of a curvature report, by each library: the cheapest setting that is good enough."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.peers.answer import Answer, CappedError, at_most
from benchmarks.peers.hutchinson import RELATIVE_ERRORS
from benchmarks.peers.library import Library
from benchmarks.peers.reference import Truth
from benchmarks.peers.workloads import Workload

TOLERANCE = 1e-3
OWN_RULE = ", by its own rule"


@dataclass(frozen=True)
class Row:
    """One library at one part of one workload.

    Attributes:
        status: ``reaches``, ``misses``, ``capped``, ``crashes`` or ``not run``.
        cpu_s: median over seeds.
        products: median over seeds.
        error: the largest over seeds: relative; of a trace its standard error.
        overhead: share of the CPU time outside of products.
    """

    workload: str
    part: str
    library: str
    status: str
    setting: str = ""
    cpu_s: float | None = None
    products: float | None = None
    error: float | None = None
    overhead: float | None = None
    memory_mib: float | None = None
    note: str = ""

    @property
    def reaches(self) -> bool:
        """Whether it may be compared."""
        return self.status == "reaches"

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.library.startswith("quant-lens")

    def plain(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


Errors = Callable[[Answer], float]
Wanted = Callable[[Answer], bool]
Attempts = Callable[[int], Iterator[Answer]]


def search(attempts: Iterator[Answer], wanted: list[Wanted], cap_s: float) -> tuple[list[Answer | None], str, str]:
    """For each of ``wanted`` the first attempt that it takes; then what ended the search, and its words."""
    found: list[Answer | None] = [None] * len(wanted)
    tried = False
    try:
        with at_most(cap_s):
            for answer in attempts:
                tried = True
                for index, takes in enumerate(wanted):
                    if found[index] is None and takes(answer):
                        found[index] = answer
                if all(found):
                    break
    except CappedError as error:
        return found, "capped", f"after {cap_s:g} CPU s: {error}"
    except Exception as error:
        return found, "crashes", f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    return found, "misses" if tried else "not run", ""


def rows_of(
    workload: Workload,
    parts: list[str],
    library: str,
    attempts: Attempts,
    wanted: list[Wanted],
    error_of: Errors,
    cap_s: float | None = None,
) -> list[Row]:
    """A row for each of ``wanted``: the median over the workload's seeds of the first answers that it takes."""
    searches = [search(attempts(seed), wanted, cap_s or workload.cap_s) for seed in workload.seeds]
    rows = []
    for index, part in enumerate(parts):
        answers = [found[index] for found, _, _ in searches]
        reached = [answer for answer in answers if answer is not None]
        if len(reached) == len(answers):
            rows.append(summary(Row(workload.name, part, library, "reaches"), reached, error_of))
        else:
            _, status, note = searches[answers.index(None)]
            rows.append(Row(workload.name, part, library, status, note=note))
    return rows


def summary(row: Row, answers: list[Answer], error_of: Errors) -> Row:
    """``row`` with the medians of ``answers``."""
    middle = sorted(answers, key=lambda answer: answer.cpu_s)[len(answers) // 2]
    outside = [1 - answer.inside_s / answer.cpu_s for answer in answers if answer.inside_s is not None]
    memory = [answer.memory_mib for answer in answers if answer.memory_mib is not None]
    return replace(
        row,
        setting=middle.setting,
        cpu_s=statistics.median(answer.cpu_s for answer in answers),
        products=statistics.median(answer.products for answer in answers),
        error=max(error_of(answer) for answer in answers),
        overhead=statistics.median(outside) if outside else None,
        memory_mib=max(memory) if memory else None,
        note=middle.note,
    )


def eigenvalues(workload: Workload, library: Library, truth: Truth, count: int, largest: bool) -> list[Row]:
    """The cheapest setting that reaches the tolerance, which only who knows the answer can choose; and by its own
    rule."""
    part = f"{count} {'largest' if largest else 'smallest'}"
    take = library.largest if largest else library.smallest
    if library.lacks("largest" if largest else "smallest"):
        return []

    def error_of(answer: Answer) -> float:
        return truth.error_of(answer.value, largest)

    rows = rows_of(
        workload,
        [part, part + OWN_RULE],
        library.name,
        lambda seed: take(workload, count, seed),
        [lambda answer: error_of(answer) <= TOLERANCE, lambda answer: bool(answer.stopped)],
        error_of,
    )
    return [
        replace(row, status="misses") if row.reaches and row.error is not None and row.error > TOLERANCE else row
        for row in rows
    ]


def traces(workload: Workload, library: Library) -> list[Row]:
    """To a standard error of 1% and of 2%, by each method of the library."""
    rows = []
    for method, take in library.traces().items():
        slack = 1.15 if method == "Hutchinson" else 1.0  # its spread was foretold from a few probes

        def within(relative_error: float, slack: float = slack) -> Wanted:
            return lambda answer: error_of_trace(answer) <= slack * relative_error

        rows += rows_of(
            workload,
            [f"trace to {relative_error:.0%}" for relative_error in RELATIVE_ERRORS],
            f"{library.name}, {method}",
            lambda seed, take=take: take(workload, seed),
            [within(relative_error) for relative_error in RELATIVE_ERRORS],
            error_of_trace,
            workload.trace_cap_s,
        )
    return rows


def error_of_trace(answer: Answer) -> float:
    """Its standard error, relative."""
    return abs((answer.standard_error or 0.0) / answer.value)
