"""hessian-eigenthings: reverse over reverse with a fresh graph; Lanczos, Hutchinson, Hutch++, quadrature.

It averages batches without weights, so a ragged sample is given to it as one batch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from hessian_eigenthings import (
    HessianOperator,
    LanczosTridiag,
    lanczos_tridiagonal,
    spectral_density,
    supervised_loss,
    trace,
)
from torch import nn

from benchmarks.peers.answer import Answer, Meter, measured, with_own_error
from benchmarks.peers.hutchinson import hutchinson
from benchmarks.peers.library import LIBRARIES, QUADRATURES, Library, TraceMethod
from benchmarks.peers.workloads import Batches, Workload

TOLERANCE = 1e-3
STEPS = (24, 48, 96, 192)
MATVECS = (24, 36, 54, 81, 120, 180, 270, 405)


class HessianEigenthings(Library):
    """Golmant's library."""

    name = "hessian-eigenthings"

    def __init__(self) -> None:
        self._runs: dict[tuple[str, int, int], _Run] = {}

    def largest(self, workload: Workload, count: int, seed: int) -> Iterator[Answer]:
        """Lanczos after each step."""
        yield from self._ends(workload, count, seed, -1)

    def smallest(self, workload: Workload, count: int, seed: int) -> Iterator[Answer]:
        """The other end of the same Krylov space."""
        yield from self._ends(workload, count, seed, 1)

    def traces(self) -> dict[str, TraceMethod]:
        """Both of its methods."""
        return {"Hutchinson": self._by_hutchinson, "Hutch++": self._by_hutchpp}

    def density(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """Its quadrature."""
        for runs, steps in QUADRATURES:
            yield measured(partial(self._quadrature, workload, runs, steps, seed), f"{runs} runs of {steps} steps")

    def _ends(self, workload: Workload, count: int, seed: int, sign: int) -> Iterator[Answer]:
        for longest in STEPS:
            run = self._run(workload, longest, seed)
            first = count if longest == STEPS[0] else STEPS[STEPS.index(longest) - 1] + 1
            for steps in range(max(first, count), longest + 1):
                yield run.after(steps, count, sign)

    def _run(self, workload: Workload, steps: int, seed: int) -> _Run:
        key = (workload.name, steps, seed)
        if key not in self._runs:
            start = torch.randn(workload.dimension, generator=torch.Generator().manual_seed(seed), dtype=workload.dtype)
            meter = Meter()
            started = time.process_time()
            found = lanczos_tridiagonal(_operator(workload, meter), start, steps)
            ends = [*meter.starts[1:], time.process_time()]
            # the basis is not needed again
            tridiagonal = LanczosTridiag(found.alphas, found.betas, [], found.last_beta, found.iterations)
            self._runs[key] = _Run(tridiagonal, [end - started for end in ends])
        return self._runs[key]

    def _by_hutchinson(self, workload: Workload, seed: int) -> Iterator[Answer]:
        yield from hutchinson(partial(self._hutchinson, workload, seed), workload.quick and seed == 0)

    def _by_hutchpp(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """It says its own error. Only where products are cheap: XTrace needs about half as many."""
        for matvecs in MATVECS if workload.quick else ():
            yield with_own_error(
                measured(partial(self._hutchpp, workload, matvecs, seed), f"Hutch++, {matvecs} products")
            )

    @staticmethod
    def _hutchinson(workload: Workload, seed: int, probes: int) -> Answer:
        def samples(meter: Meter) -> np.ndarray:
            found = trace(_operator(workload, meter), num_matvecs=probes, method="hutchinson", seed=seed)
            return found.samples.numpy()

        return measured(samples, "Hutchinson")

    @staticmethod
    def _hutchpp(workload: Workload, matvecs: int, seed: int, meter: Meter) -> tuple[float, float]:
        found = trace(_operator(workload, meter), num_matvecs=matvecs, method="hutch++", seed=seed)
        return found.estimate, found.stderr

    @staticmethod
    def _quadrature(
        workload: Workload, runs: int, steps: int, seed: int, meter: Meter
    ) -> tuple[np.ndarray, np.ndarray]:
        found = spectral_density(
            _operator(workload, meter), num_runs=runs, lanczos_steps=steps, num_grid_points=1000, seed=seed
        )
        return found.raw_eigenvalues.flatten().numpy(), found.raw_weights.flatten().numpy() / runs


class _Run(NamedTuple):
    """One Lanczos run, of which each shorter one is a part, and the CPU time at which each step was over."""

    tridiagonal: LanczosTridiag
    ends: list[float]

    def after(self, steps: int, count: int, sign: int) -> Answer:
        """What ``lanczos(k=count, max_iter=steps)`` gives from the same start."""
        alphas, betas = self.tridiagonal.alphas.numpy(), [*self.tridiagonal.betas.tolist(), self.tridiagonal.last_beta]
        inner = np.diag(betas[: steps - 1], 1)
        values, vectors = np.linalg.eigh(np.diag(alphas[:steps]) + inner + inner.T)
        order = np.argsort(sign * values)[:count]
        settled = np.abs(betas[steps - 1] * vectors[-1, order]) < TOLERANCE * np.abs(values[order])
        return Answer(
            values[order], self.ends[steps - 1], steps, f"Lanczos, {steps} steps", stopped=bool(settled.all())
        )


def _operator(workload: Workload, meter: Meter) -> HessianOperator:
    model = copy.deepcopy(workload.model)
    operator = HessianOperator(model, even(workload), supervised_loss(nn.CrossEntropyLoss()))
    operator.matvec = meter.counted(operator.matvec)
    return operator


def even(workload: Workload) -> Batches:
    """Batches that an average without weights treats rightly."""
    sizes = {len(y) for _, y in workload.batches}
    return workload.batches if len(sizes) == 1 else workload.whole


LIBRARIES.add("hessian-eigenthings", HessianEigenthings())
