"""The whole report from one set of products, against the sum of the best peer for each part."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.peers.answer import Answer, Meter, measured
from benchmarks.peers.library import Library
from benchmarks.peers.parts import Row, rows_of, summary
from benchmarks.peers.reference import Truth
from benchmarks.peers.workloads import Workload
from quant_lens_engine.curvature import measurement as measurements
from quant_lens_engine.curvature.density import Quadrature, density_of
from quant_lens_engine.curvature.measurement import CurvatureMeasurement
from quant_lens_engine.curvature.shared_products import density_runs
from quant_lens_engine.schema.analyses import CurvatureOptions
from quant_lens_engine.schema.curvature import Curvature

OPTIONS = CurvatureOptions(trace_error=0.02, trace_probes=1024, layer_eigenvalues="none", sharpness=False)
DENSITY = "density, as near as our report's"
PARTS = ("5 largest", "5 smallest", "trace to 2%", DENSITY, "layer traces")


def ours(workload: Workload, truth: Truth) -> tuple[Row, Curvature, float | None]:
    """Five eigenpairs of each end, the trace to 2%, the density, and the trace of every layer.

    Returns:
        the row, the first seed's record, and how far its density is from the exact spectrum, where that is known.
    """
    answers: list[Answer] = []
    distances: list[float] = []

    def noted(*given: Any, **named: Any) -> list[Quadrature]:
        runs = density_runs(*given, **named)
        if truth.spectrum is not None:
            found = density_of(runs, workload.dimension, 0)
            distances.append(truth.wasserstein(found.nodes, found.weights))
        return runs

    for seed in workload.seeds:

        def curvature(meter: Meter, seed: int = seed) -> Curvature:
            measurement = CurvatureMeasurement(workload.objective(), OPTIONS, seed, "reuse", workload.layers)
            operator_of = measurement._way.operator
            measurement._way.operator = lambda objective: _counted(operator_of(objective), meter)  # type: ignore[method-assign]
            with mock.patch.object(measurements, "density_runs", noted):
                return measurement.measure()

        answers.append(measured(curvature, "measure_curvature, products reused"))
    records: list[Curvature] = [answer.value for answer in answers]

    def error_of(answer: Answer) -> float:
        return max(
            truth.error_of(np.array([pair.value for pair in answer.value.largest])),
            truth.error_of(np.array([pair.value for pair in answer.value.smallest]), largest=False),
        )

    row = summary(Row(workload.name, "whole report", "quant-lens", "reaches"), answers, error_of)
    first = records[0]
    spent = ", ".join(f"{part} {products:g}" for part, products in first.products.items())
    trace_error = first.trace.standard_error / abs(first.trace.value)
    note = f"products: {spent}; trace's standard error {trace_error:.2%}; {'' if first.converged else 'not '}converged"
    return replace(row, products=first.hvps, note=note), first, statistics.fmean(distances) if distances else None


def layer_traces(
    workload: Workload, library: Library, truth: Truth, record: Curvature, rows: Sequence[Row]
) -> Row | None:
    """Of a peer: as near as ours where that is known, else from as many products as its trace to 2% took."""
    if library.ours or library.lacks("layer_traces"):
        return None
    enough = [row for row in rows if row.part == "trace to 2%" and row.library.startswith(library.name) and row.reaches]
    fewest = min((int(row.products or 0) for row in enough), default=48)
    if truth.layers is None and not enough:
        note = "its trace to 2%, which takes the same products, did not come to its end"
        return Row(workload.name, "layer traces", library.name, "capped", note=note)
    if truth.layers is None:
        row = next(row for row in enough if row.products == fewest)
        return replace(row, part="layer traces", note="the cost of its trace to 2%, which takes the same products")
    exact = np.array(list(truth.layers.values()))

    def error_of(answer: Answer) -> float:
        return float(np.sqrt(np.mean(((np.array(list(answer.value.values())) - exact) / exact) ** 2)))

    allowed = max(0.02, _own_error(record, truth))
    return rows_of(
        workload,
        ["layer traces"],
        library.name,
        lambda seed: (library.layer_traces(workload, products, seed) for products in range(fewest // 2 * 2, 400, 16)),
        [lambda answer: error_of(answer) <= allowed],
        error_of,
    )[0]


def sum_of_best(workload: Workload, rows: Sequence[Row]) -> Row:
    """The best peer for each part, together; where none came to its end, the least that the part costs."""
    chosen, total, products = [], 0.0, 0.0
    for part in PARTS:
        peers = [row for row in rows if row.workload == workload.name and row.part == part and not row.ours]
        finished = [row for row in peers if row.reaches]
        if finished:
            best = min(finished, key=lambda row: row.cpu_s or 0.0)
            chosen.append(f"{part}: {best.library} {best.cpu_s:.3g} s")
            total, products = total + (best.cpu_s or 0.0), products + (best.products or 0.0)
        elif any(row.status == "capped" for row in peers):
            chosen.append(f"{part}: more than {workload.cap_s:g} s")
            total += workload.cap_s
        else:
            chosen.append(f"{part}: none reaches it")
    return Row(
        workload.name, "whole report", "best peers", "reaches", "; ".join(chosen), cpu_s=total, products=products
    )


def dear_density(workload: Workload, rows: Sequence[Row], settings: Sequence[Row]) -> list[Row]:
    """What each peer's density would cost at the setting that was as near as ours on W1, by its time a product."""
    found = []
    near = [row for row in settings if row.part == DENSITY and row.reaches and not row.ours]
    for setting in near or [replace(row, part=DENSITY) for row in settings if row.part == "density"]:
        own = [row for row in rows if row.library.split(",")[0] == setting.library and row.reaches and row.products]
        if not own or setting.ours or not setting.reaches:
            continue
        each = min((row.cpu_s or 0.0) / (row.products or 1.0) for row in own)
        cpu_s = each * (setting.products or 0.0)
        note = "W1's setting, at the measured time a product"
        found.append(replace(setting, workload=workload.name, cpu_s=cpu_s, error=None, overhead=None, note=note))
    return found


def _own_error(record: Curvature, truth: Truth) -> float:
    exact = np.array(list((truth.layers or {}).values()))
    return float(np.sqrt(np.mean(((np.array([layer.trace.value for layer in record.layers]) - exact) / exact) ** 2)))


def _counted(operator, meter: Meter):
    operator.matvec = meter.counted(operator.matvec)
    return operator
