"""What pyhessian and landscaper, which took over its algorithms, have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.peers.answer import Answer, Meter, measured
from benchmarks.peers.hutchinson import hutchinson
from benchmarks.peers.library import QUADRATURES, Library, TraceMethod
from benchmarks.peers.workloads import Workload

TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6)


class PowerIteration(Library):
    """Power iteration with deflation, Hutchinson's trace, and a Lanczos quadrature."""

    def largest(self, workload: Workload, count: int, seed: int) -> Iterator[Answer]:
        """At its default tolerance, then at tighter ones."""
        for tolerance in TOLERANCES:
            torch.manual_seed(seed)
            yield measured(partial(self.eigenvalues, workload, count, tolerance), f"tol {tolerance:g}", stopped=True)

    def traces(self) -> dict[str, TraceMethod]:
        """Its only method."""
        return {"Hutchinson": self._trace}

    def _trace(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """Hutchinson without its own stop rule, which ends after two means that happen to be near."""
        torch.manual_seed(seed)
        yield from hutchinson(
            lambda probes: measured(partial(self.samples, workload, probes), "Hutchinson"), workload.quick and seed == 0
        )

    def density(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """Its quadrature."""
        for runs, steps in QUADRATURES:
            torch.manual_seed(seed)
            yield measured(partial(self.quadrature, workload, runs, steps), f"{runs} runs of {steps} steps")

    @abstractmethod
    def eigenvalues(self, workload: Workload, count: int, tolerance: float, meter: Meter) -> np.ndarray:
        """The largest, descending."""

    @abstractmethod
    def samples(self, workload: Workload, probes: int, meter: Meter) -> np.ndarray:
        """Of the trace, one a probe."""

    @abstractmethod
    def quadrature(self, workload: Workload, runs: int, steps: int, meter: Meter) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights."""
