"""pyhessian: power iteration with deflation and Hutchinson; its density does not run on today's torch.

Where the sample is one batch, or small enough to be made one, it keeps the gradient's graph.
"""

from __future__ import annotations

import copy
from unittest import mock

import numpy as np
from pyhessian import hessian
from torch import nn

from benchmarks.peers.answer import Meter
from benchmarks.peers.library import LIBRARIES
from benchmarks.peers.power import PowerIteration
from benchmarks.peers.workloads import Workload

MOST = 300


class PyHessian(PowerIteration):
    """The library of Yao and Gholami."""

    name = "pyhessian"

    def eigenvalues(self, workload: Workload, count: int, tolerance: float, meter: Meter) -> np.ndarray:
        """The largest, descending."""
        with _operator(workload, meter) as operator:
            found = operator.eigenvalues(maxIter=MOST, tol=tolerance, top_n=count)[0]
        return np.sort(found)[::-1]

    def samples(self, workload: Workload, probes: int, meter: Meter) -> np.ndarray:
        """One a probe."""
        with _operator(workload, meter) as operator:
            return np.array(operator.trace(maxIter=probes, tol=0.0))

    def quadrature(self, workload: Workload, runs: int, steps: int, meter: Meter) -> tuple[np.ndarray, np.ndarray]:
        """It calls ``torch.eig``, which is no more."""
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
