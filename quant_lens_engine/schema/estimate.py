"""How long a run will take, from the time of one forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

from quant_lens_engine.schema.algorithms import AlgorithmFacts
from quant_lens_engine.schema.analyses import PlaneOptions, line_points
from quant_lens_engine.schema.base import Record
from quant_lens_engine.schema.planes import ROWS_PER_PIECE, PlanePart, planned_planes
from quant_lens_engine.schema.recipe import Recipe
from quant_lens_engine.schema.run_spec import RunSpec
from quant_lens_engine.schema.stages import plan_stages

PRODUCT_COST = 6.0
"""A Hessian-vector product in forward passes; 4 to 6 were measured on a LeNet, 8 to 11 on ResNet-20, on the CPU."""
FIRST_PRODUCTS = 25.0
"""Lanczos products before λ is known to its first digit …"""
PRODUCTS_PER_DIGIT = 3.0
"""… and for each digit more: 31 at 1e-2 on ResNet-20, 38 at 1e-4 on a LeNet and on the examples."""
PRODUCTS_PER_VALUE = 4.0
"""For each eigenvalue more: 54 and 121 for five of each end on the examples, of which the smallest take most."""
USUAL_PROBES = 12.0
"""The eigenvalues' basis takes most of the variance out of the trace: the fewest probes are nearly always enough."""
ROUNDED_ACTIVATIONS = 2.0
"""A forward pass that rounds activations too, in float ones: 1.5 to 2 were measured on small networks, on the CPU."""
ACTIVATION_PASSES = 8.0
"""What ``activations`` takes, in forward passes: two or three, and statistics in float64 of all that comes by."""
BATCHNORM_PASSES = 4.0
"""What ``batchnorm`` takes: the data's statistics, two losses, and some passes over few rows."""
ADAPTIVE_SHARE = 0.54
"""Time of a full 41 × 41 plane that adaptive sampling takes at a tolerance of 0.15; 0.46 to 0.65 on three networks …"""
ADAPTIVE_GROWTH = 0.29
"""… and this power of 0.15 / tolerance more: 0.66 at 0.075 (``benchmarks/results/landscape-adaptive.md``)."""
_USUAL_TOLERANCE = 0.15
_SHARD_PRODUCTS = 2
_SHARPNESS_PRODUCTS = 12.0
_OPENING_S = 1.5
_VERDICT_S = 0.01


class Estimate(Record):
    """Seconds, from rules of thumb: half or twice as long is usual.

    Attributes:
        total_s: the whole run, on one worker.
        by_stage: seconds by kind of stage.
        stages: how many stages there are.
        assumed: what it rests on beyond the counts of passes, in sentences.
    """

    total_s: float = 0.0
    by_stage: dict[str, float] = {}
    stages: int = 0
    assumed: list[str] = []


def adaptive_share(options: PlaneOptions) -> float:
    """The share of a full smooth plane's time that is taken; 1 where every point is measured.

    Example:
        >>> adaptive_share(PlaneOptions()), adaptive_share(PlaneOptions(sampling="adaptive"))
        (1.0, 0.54)
    """
    if options.sampling == "full":
        return 1.0
    return min(1.0, ADAPTIVE_SHARE * math.pow(_USUAL_TOLERANCE / options.tolerance, ADAPTIVE_GROWTH))


def estimate(
    spec: RunSpec, samples: int, seconds_per_row: float, algorithms: Sequence[AlgorithmFacts] = ()
) -> Estimate:
    """Time of a run, for one worker on a machine as fast as the one that was measured.

    Args:
        spec: the run.
        samples: rows that it will be measured on.
        seconds_per_row: of one forward pass; see :class:`quant_lens_engine.schema.baseline.BaselineCheck`.
        algorithms: what a worker has said of them; one that is not known takes no time.

    Example:
        >>> spec = RunSpec(model={"example": "digits-mlp"}, data={"example": "digits"}, schemes=["int8", "int4"])
        >>> found = estimate(spec, 360, 1e-5)
        >>> found.stages, sorted(found.by_stage)
        (32, ['activations', 'batchnorm', 'curvature', 'evaluate', 'inspect', 'line', 'plane', 'verdict'])
    """
    once = samples * seconds_per_row
    curvature, line = spec.analyses.curvature, spec.analyses.line
    digits = -math.log10(curvature.tolerance)
    values = PRODUCTS_PER_VALUE * (curvature.top + curvature.bottom - 2)
    products = min(curvature.max_products, FIRST_PRODUCTS + PRODUCTS_PER_DIGIT * digits + values) + _SHARD_PRODUCTS
    products += curvature.density_runs * curvature.density_steps + min(curvature.trace_probes, USUAL_PROBES)
    products += _SHARPNESS_PRODUCTS if curvature.sharpness else 0.0
    points = line_points(line)
    plane_points = spec.analyses.plane.points
    cost = {
        "inspect": _OPENING_S + once,
        "evaluate": once,
        "curvature": products * PRODUCT_COST * once,
        "line": 2 * points * once,
        "plane": min(plane_points, ROWS_PER_PIECE) * plane_points * once,
        "activations": ACTIVATION_PASSES * once,
        "batchnorm": BATCHNORM_PASSES * once,
        "verdict": _VERDICT_S,
    }
    by_stage: dict[str, float] = {}
    stages = list(plan_stages(spec))
    slower = {recipe.name for recipe in spec.schemes if recipe.scheme.activations is not None}
    share, foretold = adaptive_share(spec.analyses.plane), _adaptive_planes(spec)
    for stage in stages:
        factor = ROUNDED_ACTIVATIONS if stage.variant in slower else 1.0
        if stage.kind == "plane" and PlanePart.parse(stage.part or "").plane in foretold:
            factor *= share
        by_stage[stage.kind] = by_stage.get(stage.kind, 0.0) + factor * cost[stage.kind]
    calibrating = spec.data.calibration.limit * seconds_per_row
    making = sum(_passes(recipe, algorithms) for recipe in spec.schemes) * calibrating
    by_stage["evaluate"] += once + making  # the float model's answers, for the comparison; the variants themselves
    by_stage["line"] -= points * once  # the float model's two landscapes are one
    assumed = [f"adaptive planes: {share:.0%} of a full plane's time, as on our examples"] if foretold else []
    return Estimate(total_s=sum(by_stage.values()), by_stage=by_stage, stages=len(stages), assumed=assumed)


def _adaptive_planes(spec: RunSpec) -> set[int]:
    """Of a deployed plane every point is measured, whatever is asked for."""
    options = spec.analyses.plane
    planned = planned_planes(options, [recipe.name for recipe in spec.schemes])
    return {plane.number for plane in planned if options.sampling == "adaptive" and plane.landscape == "smooth"}


def _passes(recipe: Recipe, algorithms: Sequence[AlgorithmFacts]) -> float:
    """What making a variant takes, in forward passes over the calibration rows."""
    known = {facts.name: facts for facts in algorithms}
    total = 1.0 if recipe.scheme.needs_calibration else 0.0
    for step in recipe.algorithms:
        if facts := known.get(step.name):
            usual = facts.options.get("steps", 1)
            total += facts.passes * float(step.options.get("steps", usual)) / usual
    return total
