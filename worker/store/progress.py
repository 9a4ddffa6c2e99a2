"""How far a run is, and when it will be finished: from what its stages have taken so far, never from a guess.

A stage's *weight* is its cost in forward passes over the sample: only ratios matter, and each kind's pace is
measured as the run goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from quant_lens_engine.schema import FLOAT_VARIANT, PlanePart, RunProgress, RunSpec, StageProgress, plan_stages
from quant_lens_engine.schema.analyses import line_points
from quant_lens_engine.schema.estimate import ACTIVATION_PASSES, BATCHNORM_PASSES

_SETTLED = frozenset({"done", "failed", "skipped"})
_LANCZOS_PRODUCTS = 50
"""Hessian-vector products that Lanczos usually takes for both ends; the cap of the options is larger."""
_PROBES = 12
"""Probes that a trace usually takes; the cap of the options is larger."""
_PRODUCT_COST = 5.0
"""A Hessian-vector product in forward passes: gradient and its derivative, each forward and backward."""


def stage_weights(spec: RunSpec) -> dict[str, float]:
    """What each stage costs, in forward passes over the sample.

    Example:
        >>> spec = RunSpec(model={"example": "digits-mlp"}, data={"example": "digits"}, schemes=["int8"])
        >>> stage_weights(spec)["evaluate/int8"]
        2.0
    """
    curvature, line = spec.analyses.curvature, spec.analyses.line
    products = min(_LANCZOS_PRODUCTS, curvature.max_products) + curvature.density_runs * curvature.density_steps
    products += min(_PROBES, curvature.trace_probes)
    costs = {"inspect": 1.0, "evaluate": 2.0, "curvature": products * _PRODUCT_COST, "verdict": 0.1,
             "activations": ACTIVATION_PASSES, "batchnorm": BATCHNORM_PASSES}  # fmt: skip
    weights = {}
    points = spec.analyses.plane.points
    for key in plan_stages(spec):
        if key.part is not None:
            weights[str(key)] = float(points * len(PlanePart.parse(key.part).rows(points)))
            continue
        landscapes = 1 if key.variant == FLOAT_VARIANT else 2
        weights[str(key)] = line_points(line) * landscapes if key.kind == "line" else costs[key.kind]
    return weights


def run_progress(
    stages: Sequence[StageProgress], weights: Mapping[str, float], *, was_cut_short: bool = False
) -> RunProgress:
    """The run's fraction and its time left.

    Args:
        stages: as they stand.
        weights: of each stage, by name.
        was_cut_short: the run was cancelled, or has failed: a skipped stage is then one that was never finished.

    ``eta_s`` is null until a stage of some weight has been computed (not taken from the store) at least in part,
    and once nothing is left.
    """
    over = _SETTLED - {"skipped"} if was_cut_short else _SETTLED
    named = [(stage, weights.get(str(stage.key), 1.0), _fraction(stage, over)) for stage in stages]
    total = sum(weight for _, weight, _ in named)
    finished = sum(weight * fraction for _, weight, fraction in named)
    return RunProgress(
        fraction=round(finished / total, 4) if total else 0.0,
        eta_s=None if was_cut_short else _time_left(named),
        stages_done=sum(stage.state in over for stage in stages),
        stages_total=len(stages),
        stages=list(stages),
    )


def _time_left(named: Sequence[tuple[StageProgress, float, float]]) -> float | None:
    measured: dict[str, tuple[float, float]] = {}
    for stage, weight, fraction in named:
        if stage.elapsed_s and fraction > 0 and not stage.from_store and stage.state in {"done", "running"}:
            seconds, work = measured.get(stage.stage, (0.0, 0.0))
            measured[stage.stage] = seconds + stage.elapsed_s, work + weight * fraction
    left = [(stage.stage, weight * (1 - fraction)) for stage, weight, fraction in named if fraction < 1]
    heavy = [pace for kind, pace in measured.items() if kind not in {"inspect", "verdict"}]
    if not left or not heavy:
        return None
    overall = sum(seconds for seconds, _ in heavy) / sum(work for _, work in heavy)
    pace = {kind: seconds / work for kind, (seconds, work) in measured.items()}
    holders = {stage.worker for stage, _, _ in named if stage.state == "running" and stage.worker}
    seconds_left = sum(work * pace.get(kind, overall) for kind, work in left)
    return round(seconds_left / max(1, len(holders)), 1)


def _fraction(stage: StageProgress, over: Set[str]) -> float:
    if stage.state in over:
        return 1.0
    return min(1.0, stage.done / stage.total) if stage.state == "running" and stage.total > 0 else 0.0
