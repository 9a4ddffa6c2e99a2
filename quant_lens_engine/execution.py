"""How a run is computed: settled once, by shape and memory rules, and part of what its digits depend on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from quant_lens_engine.curvature import choose_plan
from quant_lens_engine.curvature.plan import graph_bytes
from quant_lens_engine.curvature.plan_timing import quickest_plan
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.model_call import plain_paths
from quant_lens_engine.objective.placement import available_device
from quant_lens_engine.objective.sample import Batch, tensors
from quant_lens_engine.schema import Execution

MOST_THREADS = 4
"""More threads than this help networks of this size little, and equal blocks should be common."""

GRAPH_BYTES = {"cpu": 2**28, "cuda": 2**31}
"""What the graph of one micro-batch's gradient may take."""

CACHE_BYTES = 2**22
"""What the largest activation of one micro-batch may take on the CPU: beyond, a layer waits for memory. Measured on a
ResNet-20 of 32 × 32 pixels (64 KiB a row), one of 16 × 16 and a transformer, the micro-batch that this gives is within
5 % of the best one, for a pass and for a Hessian product; 512 rows of the first at once take 2.4 times as long."""

FEWEST_IN_CACHE = 8
"""Rows below which it is the weights that are read too often."""

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
            block["micro_batch"] = min(batch_size, _rows_that_fit(found), _rows_in_cache(found))
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
    return _power_of_two(GRAPH_BYTES[objective.device.type] // per_row)


def _rows_in_cache(objective: Objective) -> int:
    """The largest power of two of rows whose largest activation stays within :data:`CACHE_BYTES`, on the CPU."""
    if objective.device.type != "cpu":
        return sys.maxsize
    probe = _probe(objective).to(objective.device, objective.dtype)
    sizes = [tensor.nbytes for tensor in tensors(probe.content)]

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        sizes.extend(tensor.nbytes for tensor in tensors(output))

    hooks = [module.register_forward_hook(note) for module in objective.model.modules()]
    try:
        with torch.no_grad(), plain_paths():
            objective.output(probe)
    finally:
        for hook in hooks:
            hook.remove()
    return max(FEWEST_IN_CACHE, _power_of_two(CACHE_BYTES * probe.rows // max(1, *sizes)))


def _power_of_two(rows: int) -> int:
    """The largest one up to ``rows``."""
    return 1 << (max(1, rows).bit_length() - 1)
