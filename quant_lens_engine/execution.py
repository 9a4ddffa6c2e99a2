"""How a run is computed: settled once, by shape and memory rules, and part of what its digits depend on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from quant_lens_engine.curvature import choose_plan
from quant_lens_engine.curvature.plan import graph_bytes
from quant_lens_engine.curvature.plan_timing import quickest_plan
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.placement import available_device
from quant_lens_engine.objective.sample import Batch
from quant_lens_engine.schema import Execution

MOST_THREADS = 4
"""More threads than this help networks of this size little, and equal blocks should be common."""

GRAPH_BYTES = {"cpu": 2**28, "cuda": 2**31}
"""What the graph of one micro-batch's gradient may take."""

PARALLEL_OPERATIONS = 1e8
"""Floating-point operations of one micro-batch's forward pass from which a second thread helps: below, the threads
wait for each other longer than they compute, on a busy machine by far."""

_PROBE_ROWS = 2


def resolve_execution(
    requested: Execution, objective: Callable[[dict[str, Any]], Objective], *, batch_size: int
) -> dict[str, Any]:
    """The execution block of a run: ``device``, ``dtype``, ``threads``, ``micro_batch``, ``hvp_plan``.

    Args:
        requested: what the spec fixes; the rest is settled here, by a stopwatch only where ``measured`` asks for it.
        objective: makes the run's objective for a block, at the float point.
        batch_size: rows of one pass, the upper limit of a micro-batch.

    Raises:
        DeviceError: the device is not on this machine.
    """
    block: dict[str, Any] = {
        "device": default_device() if requested.device == "auto" else requested.device,
        "dtype": requested.dtype,
        "threads": requested.threads or 1,
        "micro_batch": requested.micro_batch or batch_size,
        "hvp_plan": requested.hvp_plan,
    }
    available_device(block["device"])
    with computing(block):
        found = objective(block)
        if requested.micro_batch is None:
            block["micro_batch"] = min(batch_size, _rows_that_fit(found))
        if requested.threads is None and block["micro_batch"] * _operations_per_row(found) >= PARALLEL_OPERATIONS:
            block["threads"] = min(available_cores(), MOST_THREADS)
        if requested.hvp_plan is None:
            block["hvp_plan"] = choose_plan(objective(block))
        elif requested.hvp_plan == "measured":
            block["hvp_plan"] = quickest_plan(objective(block))
    return block


def default_device() -> str:
    """CUDA where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def computing(block: Mapping[str, Any]) -> Iterator[None]:
    """Compute as the block says, with deterministic kernels; the process's own settings come back afterwards."""
    threads = torch.get_num_threads()
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    torch.set_num_threads(block["threads"])
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


def _probe(objective: Objective) -> Batch:
    batch = objective.sample.batches[0]
    return batch.select(slice(0, min(_PROBE_ROWS, batch.rows)))


def _operations_per_row(objective: Objective) -> float:
    """Multiplications and additions of products and convolutions; a layer that is not counted counts its weights."""
    probe = _probe(objective).to(objective.device, objective.dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        objective.output(probe)
    return max(float(counter.get_total_flops()) / probe.rows, 2.0 * objective.dimension)


def _rows_that_fit(objective: Objective) -> int:
    """The largest power of two of rows whose gradient's graph stays within :data:`GRAPH_BYTES`."""
    probe = _probe(objective)
    per_row = max(1, graph_bytes(objective, probe) // probe.rows)
    rows = GRAPH_BYTES[objective.device.type] // per_row
    return 1 << (max(1, rows).bit_length() - 1)
