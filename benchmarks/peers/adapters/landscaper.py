"""landscaper: pyhessian's algorithms with the gradient's graphs kept (``try_cache``)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from landscaper import PyHessian
from torch import nn

from benchmarks.peers.answer import Answer, Meter, measured
from benchmarks.peers.hutchinson import hutchinson
from benchmarks.peers.library import LIBRARIES, QUADRATURES, Library, TraceMethod
from benchmarks.peers.workloads import Workload

TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6)
MOST = 300


class Landscaper(Library):
    """Lawrence Berkeley's library."""

    name = "landscaper"

    def largest(self, workload: Workload, count: int, seed: int) -> Iterator[Answer]:
        """At its default tolerance, then at tighter ones."""
        for tolerance in TOLERANCES:
            torch.manual_seed(seed)
            yield measured(partial(_eigenvalues, workload, count, tolerance), f"tol {tolerance:g}", stopped=True)

    def traces(self) -> dict[str, TraceMethod]:
        """Its only method."""
        return {"Hutchinson": self._trace}

    def _trace(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """Hutchinson without its own stop rule; it returns only the mean, so samples are read at the product."""
        torch.manual_seed(seed)
        yield from hutchinson(
            lambda probes: measured(partial(_probes, workload, probes), "Hutchinson"), workload.quick and seed == 0
        )

    def density(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """Its quadrature: the weights are the squares of the first row of what it returns."""
        for runs, steps in QUADRATURES:
            torch.manual_seed(seed)
            yield measured(partial(_quadrature, workload, runs, steps), f"{runs} runs of {steps} steps")


def _eigenvalues(workload: Workload, count: int, tolerance: float, meter: Meter) -> np.ndarray:
    return np.sort(_operator(workload, meter).eigenvalues(maxIter=MOST, tol=tolerance, top_n=count)[0])[::-1]


def _probes(workload: Workload, probes: int, meter: Meter) -> np.ndarray:
    operator, samples = _operator(workload, meter), []
    product = operator.hv_product

    def noted(vector: list[torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
        found = product(vector)
        samples.append(found[0])
        return found

    operator.hv_product = noted
    operator.trace(maxIter=probes, tol=0.0)
    return np.array(samples)


def _quadrature(workload: Workload, runs: int, steps: int, meter: Meter) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = _operator(workload, meter).density(iter=steps, n_v=runs)
    first = [np.real(rows[0]) for rows in weights]
    return np.real(np.concatenate(nodes)), np.concatenate(first) / runs


def _operator(workload: Workload, meter: Meter) -> PyHessian:
    model = copy.deepcopy(workload.model)
    operator = PyHessian(model, nn.CrossEntropyLoss(), workload.batches, "cpu", try_cache=True)
    operator.hv_product = meter.counted(operator.hv_product)
    return operator


LIBRARIES.add("landscaper", Landscaper())
