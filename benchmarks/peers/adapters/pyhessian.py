"""pyhessian: power iteration with deflation and Hutchinson; its density does not run on today's torch.

Where the sample is one batch, or small enough to be made one, it keeps the gradient's graph.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from unittest import mock

import numpy as np
import torch
from pyhessian import hessian
from torch import nn

from benchmarks.peers.answer import Answer, Meter, measured
from benchmarks.peers.hutchinson import hutchinson
from benchmarks.peers.library import LIBRARIES, QUADRATURES, Library, TraceMethod
from benchmarks.peers.workloads import Workload

TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6)
MOST = 300


class PyHessian(Library):
    """The library of Yao and Gholami."""

    name = "pyhessian"

    def largest(self, workload: Workload, count: int, seed: int) -> Iterator[Answer]:
        """At its default tolerance, then at tighter ones."""
        for tolerance in TOLERANCES:
            torch.manual_seed(seed)
            found = measured(partial(_eigenvalues, workload, count, tolerance), f"tol {tolerance:g}", stopped=True)
            yield found

    def traces(self) -> dict[str, TraceMethod]:
        """Its only method."""
        return {"Hutchinson": self._trace}

    def _trace(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """Hutchinson without its own stop rule, which ends after two means that happen to be near."""
        torch.manual_seed(seed)
        yield from hutchinson(
            lambda probes: measured(partial(_probes, workload, probes), "Hutchinson"), workload.quick and seed == 0
        )

    def density(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """It calls ``torch.eig``, which is no more."""
        for runs, steps in QUADRATURES:
            torch.manual_seed(seed)
            yield measured(partial(_quadrature, workload, runs, steps), f"{runs} runs of {steps} steps")


def _eigenvalues(workload: Workload, count: int, tolerance: float, meter: Meter) -> np.ndarray:
    with _operator(workload, meter) as operator:
        found = operator.eigenvalues(maxIter=MOST, tol=tolerance, top_n=count)[0]
    return np.sort(found)[::-1]


def _probes(workload: Workload, probes: int, meter: Meter) -> np.ndarray:
    with _operator(workload, meter) as operator:
        return np.array(operator.trace(maxIter=probes, tol=0.0))


def _quadrature(workload: Workload, runs: int, steps: int, meter: Meter) -> tuple[np.ndarray, np.ndarray]:
    with _operator(workload, meter) as operator:
        nodes, weights = operator.density(iter=steps, n_v=runs)
    return np.concatenate(nodes), np.concatenate(weights) / runs


class _operator:  # noqa: N801 - reads as a function
    """The library's object, with its product counted, while the context lasts."""

    def __init__(self, workload: Workload, meter: Meter) -> None:
        self._workload, self._meter = workload, meter
        self._patch = mock.patch("pyhessian.hessian.hessian_vector_product", self._counted_product())

    def _counted_product(self):
        from pyhessian.utils import hessian_vector_product

        return self._meter.counted(hessian_vector_product)

    def __enter__(self) -> hessian:
        workload = self._workload
        model, criterion = copy.deepcopy(workload.model), nn.CrossEntropyLoss()
        whole = len(workload.batches) == 1 or workload.quick
        self._patch.start()
        if whole:
            return hessian(model, criterion, data=workload.whole[0], cuda=False)
        found = hessian(model, criterion, dataloader=workload.batches, cuda=False)
        found.dataloader_hv_product = self._meter.counted(found.dataloader_hv_product)
        return found

    def __exit__(self, *_: object) -> None:
        self._patch.stop()


LIBRARIES.add("pyhessian", PyHessian())
