"""landscaper: pyhessian's algorithms with the gradient's graphs kept (``try_cache``)."""

from __future__ import annotations

import copy

import numpy as np
import torch
from landscaper import PyHessian
from torch import nn

from benchmarks.peers.answer import Meter
from benchmarks.peers.library import LIBRARIES
from benchmarks.peers.power import PowerIteration
from benchmarks.peers.workloads import Workload

MOST = 300


class Landscaper(PowerIteration):
    """Lawrence Berkeley's library."""

    name = "landscaper"

    def eigenvalues(self, workload: Workload, count: int, tolerance: float, meter: Meter) -> np.ndarray:
        """The largest, descending."""
        return np.sort(_operator(workload, meter).eigenvalues(maxIter=MOST, tol=tolerance, top_n=count)[0])[::-1]

    def samples(self, workload: Workload, probes: int, meter: Meter) -> np.ndarray:
        """It returns only the mean, so samples are read at the product."""
        operator, samples = _operator(workload, meter), []
        product = operator.hv_product

        def noted(vector: list[torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
            found = product(vector)
            samples.append(found[0])
            return found

        operator.hv_product = noted
        operator.trace(maxIter=probes, tol=0.0)
        return np.array(samples)

    def quadrature(self, workload: Workload, runs: int, steps: int, meter: Meter) -> tuple[np.ndarray, np.ndarray]:
        """The weights are the squares of the first row of what it returns."""
        nodes, weights = _operator(workload, meter).density(iter=steps, n_v=runs)
        first = [np.real(rows[0]) for rows in weights]
        return np.real(np.concatenate(nodes)), np.concatenate(first) / runs


def _operator(workload: Workload, meter: Meter) -> PyHessian:
    model = copy.deepcopy(workload.model)
    operator = PyHessian(model, nn.CrossEntropyLoss(), workload.batches, "cpu", try_cache=True)
    operator.hv_product = meter.counted(operator.hv_product)
    return operator


LIBRARIES.add("landscaper", Landscaper())
