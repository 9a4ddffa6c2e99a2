"""The quickest exact plan of Hessian products by the stopwatch, for those who ask for it."""

from __future__ import annotations

import time

import torch

from quant_lens_engine.curvature.operators.hessian import HessianOperator
from quant_lens_engine.curvature.plan import HvpPlan, choose_plan
from quant_lens_engine.errors import NumericalError
from quant_lens_engine.objective import Objective

_TOGETHER = 4


def time_plans(objective: Objective) -> dict[HvpPlan, float]:
    """Seconds a product of each plan that works, over a single one and several together, the least of three.

    A plan that fails, or has to ask less of the memory, is left out; so is ``reuse`` where its graphs do not fit.

    Example:
        >>> data = [(torch.ones(4, 2), torch.zeros(4, 1))]
        >>> sorted(time_plans(Objective(torch.nn.Linear(2, 1), data, task="regression")))
        ['forward-over-reverse', 'fresh', 'reuse']
    """
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(_TOGETHER, objective.dimension, dtype=torch.float64, generator=generator)
    vectors = vectors.to(objective.device)
    found: dict[HvpPlan, float] = {}
    for plan in HessianOperator.plans:
        if plan == "reuse" and choose_plan(objective) != "reuse":
            continue
        operator = HessianOperator(objective, plan)
        try:
            seconds = min(_seconds(operator, vectors) for _ in range(3))
        except (RuntimeError, MemoryError, NumericalError):  # the measurement will say why, where none works
            continue
        if not operator.lowered:
            found[plan] = seconds
        operator.release()
    return found


def quickest_plan(objective: Objective) -> HvpPlan:
    """The plan with the least time a product here and now; another moment may choose another, and other digits."""
    times = time_plans(objective)
    return min(times, key=times.__getitem__, default="fresh")


def _seconds(operator: HessianOperator, vectors: torch.Tensor) -> float:
    _synchronise(operator.device)
    started = time.perf_counter()
    operator.matvec(vectors[0])
    operator.matmat(vectors)
    _synchronise(operator.device)
    return (time.perf_counter() - started) / (1 + len(vectors))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
