"""curvlinops: forward over reverse under vmap; SciPy's ARPACK, XTrace, Hutch++, quadrature without
re-orthogonalisation."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from curvlinops import HessianLinearOperator, xdiag, xtrace
from curvlinops.papyan2020traces.spectrum import fast_lanczos
from curvlinops.trace import epperly2024xtrace
from scipy.sparse.linalg import eigsh
from torch import nn

from benchmarks.peers.answer import Answer, Meter, measured, with_own_error
from benchmarks.peers.library import LIBRARIES, QUADRATURES, Library, TraceMethod
from benchmarks.peers.workloads import Workload

TOLERANCE = 1e-3
MATVECS = (24, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256)
FEWER_MATVECS = (24, 48, 96, 144, 192)
"""Where products are dear."""


class Curvlinops(Library):
    """The linear operators of f-dangel."""

    name = "curvlinops-for-pytorch"

    def largest(self, workload: Workload, count: int, seed: int) -> Iterator[Answer]:
        """ARPACK with a smaller and with its default basis; both stop by ARPACK's own rule."""
        yield from self._ends(workload, count, seed, "LA")

    def smallest(self, workload: Workload, count: int, seed: int) -> Iterator[Answer]:
        """The same at the other end."""
        yield from self._ends(workload, count, seed, "SA")

    def traces(self) -> dict[str, TraceMethod]:
        """Its best: its Hutchinson and its Hutch++ take the same products."""
        return {"XTrace": self._trace}

    def _trace(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """XTrace; it gives no error, so that of its paper (section 2.1) is taken from the traces that it averages."""
        for matvecs in MATVECS if workload.quick else FEWER_MATVECS:
            torch.manual_seed(seed)
            yield with_own_error(measured(partial(_xtrace, workload, matvecs), f"XTrace, {matvecs} products"))

    def density(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """The quadrature behind its density, without the products that only scale the picture."""
        for runs, steps in QUADRATURES:
            torch.manual_seed(seed)
            yield measured(partial(_quadrature, workload, runs, steps), f"{runs} runs of {steps} steps")

    def layer_traces(self, workload: Workload, products: int, seed: int) -> Answer:
        """Sums over the diagonal that XDiag estimates."""

        def traces(meter: Meter) -> dict[str, float]:
            return workload.layer_sums(xdiag(_operator(workload, meter), products))

        torch.manual_seed(seed)
        return measured(traces, f"XDiag, {products} products")

    def _ends(self, workload: Workload, count: int, seed: int, which: str) -> Iterator[Answer]:
        start = np.random.default_rng(seed).standard_normal(workload.dimension)
        for basis in (2 * count + 4, max(2 * count + 1, 20)):
            options = {"k": count, "which": which, "ncv": basis, "v0": start, "tol": TOLERANCE}
            yield measured(partial(_eigsh, workload, options), f"eigsh, basis of {basis}", stopped=True)


def _eigsh(workload: Workload, options: dict[str, Any], meter: Meter) -> np.ndarray:
    found = np.sort(eigsh(_operator(workload, meter).to_scipy(), **options)[0])
    return found[::-1] if options["which"] == "LA" else found


def _xtrace(workload: Workload, matvecs: int, meter: Meter) -> tuple[float, float]:
    averaged: list[torch.Tensor] = []

    def mean(values: torch.Tensor) -> torch.Tensor:
        averaged.append(values)
        return torch.mean(values)

    with mock.patch.object(epperly2024xtrace, "mean", mean):
        value = float(xtrace(_operator(workload, meter), matvecs))
    return value, float(averaged[0].std()) / len(averaged[0]) ** 0.5


def _quadrature(workload: Workload, runs: int, steps: int, meter: Meter) -> tuple[np.ndarray, np.ndarray]:
    operator = _operator(workload, meter)
    found = [fast_lanczos(operator, steps) for _ in range(runs)]
    weights = [vectors[0] ** 2 / runs for _, vectors in found]
    return torch.cat([values for values, _ in found]).numpy(), torch.cat(weights).numpy()


def _operator(workload: Workload, meter: Meter) -> HessianLinearOperator:
    model = copy.deepcopy(workload.model)
    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), workload.batches, check_deterministic=False
    )
    operator._matmat = meter.counted(operator._matmat, lambda columns: columns[0].shape[-1])
    return operator


LIBRARIES.add("curvlinops", Curvlinops())
