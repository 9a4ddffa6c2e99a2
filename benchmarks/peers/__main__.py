"""Measure everything in one process and one thread; figures go to ``benchmarks/results/peers.*``.

python -m benchmarks.peers [W1 W3 W2]
"""

from __future__ import annotations

import os

os.environ.setdefault("TQDM_DISABLE", "1")

import sys
import time
import warnings
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.peers import report
from benchmarks.peers.claims import claims_of
from benchmarks.peers.densities import densities
from benchmarks.peers.library import Library, load
from benchmarks.peers.parts import Row, eigenvalues, traces
from benchmarks.peers.reference import truth_of
from benchmarks.peers.table import write
from benchmarks.peers.warm import Warm, variants
from benchmarks.peers.workloads import WORKLOADS, Workload, resnet
from benchmarks.workload import cpu_ms, gradient
from quant_lens_engine.curvature import HessianOperator

WARM_ROWS = 128
"""Samples of ResNet-20 for the variants: products are counted there, not seconds."""


def products_of(workload: Workload) -> dict[str, float | str]:
    """A product in gradients: the least of several, taken in turn."""
    objective = workload.objective()
    reuse, fresh = HessianOperator(objective, "reuse"), HessianOperator(objective, "fresh")
    vector = torch.randn(objective.dimension, dtype=torch.float64)
    unit, kept, built = (
        min(times)
        for times in zip(
            *[
                (
                    cpu_ms(lambda: gradient(objective), 1),
                    cpu_ms(lambda: reuse.matvec(vector), 1),
                    cpu_ms(lambda: fresh.matvec(vector), 1),
                )
                for _ in range(3)
            ],
            strict=True,
        )
    )
    return {
        "workload": workload.name,
        "network": workload.title,
        "gradient, ms": unit,
        "reuse": kept / unit,
        "fresh": built / unit,
    }


def measure(workload: Workload, libraries: list[Library], densities_at_w1: list[Row]) -> list[Row]:
    """Every part by every library, one after the other."""
    truth = truth_of(workload)
    rows: list[Row] = []

    def add(found: list[Row]) -> None:
        for row in found:
            rows.append(row)
            print(f"{time.process_time():7.0f} s  {row}", flush=True)

    for count, largest in ((1, True), (5, True), (5, False)):
        for library in libraries:
            add(eigenvalues(workload, library, truth, count, largest))
    for library in libraries:
        add(traces(workload, library))
    own, record, distance = report.ours(workload, truth)
    add([own])
    if distance is not None:
        add(densities(workload, libraries, truth, {report.DENSITY: distance}))
    else:
        add(report.dear_density(workload, rows, densities_at_w1))
    add([row for row in (report.layer_traces(workload, library, truth, record, rows) for library in libraries) if row])
    add([report.sum_of_best(workload, rows)])
    return rows


def main() -> None:
    """Measure, judge, write."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    libraries, missing = load()
    rows: list[Row] = []
    warm: list[Warm] = []
    products: list[dict[str, Any]] = []
    started = time.process_time()
    for name in sys.argv[1:] or WORKLOADS:
        workload = WORKLOADS[name]()
        before = torch.get_default_dtype()
        torch.set_default_dtype(workload.dtype)  # some peers draw their vectors in it
        with sdpa_kernel(SDPBackend.MATH):  # the only kernel that can be differentiated twice, for the peers too
            products.append(products_of(workload))
            print(products[-1], flush=True)
            if name == "W2":
                products.append(products_of(resnet(32)))
            rows += measure(workload, libraries, [row for row in rows if row.part.startswith("density")])
            if name != "W3":
                warm += variants(workload if workload.quick else workload.first(WARM_ROWS))
        torch.set_default_dtype(before)
        spent = time.process_time() - started
        write(rows, warm, products, claims_of(rows, warm, products), libraries, missing, spent)


if __name__ == "__main__":
    main()
