"""From the stages that are finished to a RunResult; the same function in notebook, command line and server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from quant_lens_engine.schema.base import Record
from quant_lens_engine.schema.curvature import Curvature
from quant_lens_engine.schema.landscape import Plane
from quant_lens_engine.schema.planes import PlanePart, join_pieces
from quant_lens_engine.schema.recipe import Recipe
from quant_lens_engine.schema.run_result import (
    FLOAT_VARIANT,
    Comparison,
    Layer,
    RunResult,
    StageFailure,
    Variant,
    distinct_failures,
)
from quant_lens_engine.schema.run_spec import RunSpec
from quant_lens_engine.schema.stages import (
    ActivationsPayload,
    BatchNormPayload,
    CurvaturePayload,
    EvaluatePayload,
    InspectPayload,
    LinePayload,
    PlanePayload,
    StageKey,
    VerdictPayload,
)
from quant_lens_engine.version import __version__

P = TypeVar("P", bound=Record)


def assemble(spec: RunSpec, stages: Mapping[StageKey, Record], failures: Sequence[StageFailure] = ()) -> RunResult:
    """The result as far as it is known: what is not finished is null.

    Args:
        spec: the run.
        stages: the payload of each finished stage.
        failures: the stages that have none, and why.
    """
    recipes = {recipe.name: recipe for recipe in spec.schemes}
    return assemble_variants(recipes, stages, failures, seed=spec.seed, task=spec.task)


def assemble_variants(
    recipes: Mapping[str, Recipe | None],
    stages: Mapping[StageKey, Record],
    failures: Sequence[StageFailure] = (),
    *,
    seed: int,
    task: str,
) -> RunResult:
    """:func:`assemble` where variants have names of their own, and a custom model has no recipe (a notebook)."""
    inspect = _payload(stages, StageKey("inspect"), InspectPayload)
    variants = [_variant(FLOAT_VARIANT, None, stages)]
    variants += [_variant(name, recipe, stages) for name, recipe in recipes.items()]
    _mark_points(variants)
    result = RunResult(
        engine_version=__version__, seed=seed, task=task, variants=variants, failures=distinct_failures(failures)
    )
    if inspect is not None:
        result.model, result.data, result.execution = inspect.model, inspect.data, inspect.execution
        result.notes = inspect.notes
    result.comparisons = [compare_to_float(variants[0], variant) for variant in variants[1:]]
    for comparison in result.comparisons:
        verdict = _payload(stages, StageKey("verdict", comparison.variant), VerdictPayload)
        comparison.verdict = verdict.verdict if verdict else None
    return result


def compare_to_float(baseline: Variant, variant: Variant) -> Comparison:
    """The differences of a variant from the float model; what is not measured yet is null."""
    comparison = Comparison(variant=variant.name, baseline=baseline.name)
    if variant.evaluation is not None:
        measured = variant.evaluation
        comparison.delta_loss = measured.delta_loss
        comparison.delta_loss_standard_error = measured.delta_loss_standard_error
        comparison.delta_accuracy = measured.delta_accuracy
        comparison.delta_accuracy_standard_error = measured.delta_accuracy_standard_error
    if variant.curvature is not None and baseline.curvature is not None:
        comparison.sharpness_ratio = sharpness_ratio(baseline.curvature, variant.curvature)
    return comparison


def sharpness_ratio(baseline: Curvature, variant: Curvature) -> float | None:
    """λmax(variant)/λmax(baseline); None where the baseline's λmax is within its own uncertainty of zero."""
    reference, value = baseline.lambda_max.value, variant.lambda_max.value
    if reference is None or value is None:
        return None
    uncertainty = max(baseline.lambda_max.residual or 0.0, baseline.lambda_max.sampling_error)
    return None if reference <= uncertainty else value / reference


def _variant(name: str, recipe: Recipe | None, stages: Mapping[StageKey, Record]) -> Variant:
    variant = Variant(name=name)
    if recipe is not None:
        variant.scheme = {"name": recipe.scheme.name, **recipe.scheme.model_dump(mode="json")}
        variant.algorithms = [step.model_dump() for step in recipe.algorithms]
        variant.layer_choice = {key: list(value) for key, value in recipe.layers.model_dump().items() if value}
    if (evaluate := _payload(stages, StageKey("evaluate", name), EvaluatePayload)) is not None:
        variant.effective_bits = evaluate.effective_bits
        variant.size_bytes = evaluate.size_bytes
        variant.quantized_layers = evaluate.quantized_layers
        variant.skipped_layers = evaluate.skipped_layers
        variant.layers = evaluate.layers
        variant.activations = evaluate.activations
        variant.calibrated_by = evaluate.calibrated_by
        variant.notes = evaluate.notes
        variant.unmapped = evaluate.unmapped
        variant.evaluation = evaluate.evaluation
    if (curvature := _payload(stages, StageKey("curvature", name), CurvaturePayload)) is not None:
        variant.curvature = curvature.curvature
        _add_layer_curvature(variant, curvature.curvature)
    if (line := _payload(stages, StageKey("line", name), LinePayload)) is not None:
        variant.lines, variant.path = line.lines, line.path
    if (flow := _payload(stages, StageKey("activations", name), ActivationsPayload)) is not None:
        variant.activation_statistics = flow.activations
    if (drift := _payload(stages, StageKey("batchnorm", name), BatchNormPayload)) is not None:
        variant.batchnorm = drift.batchnorm
    variant.planes = _planes(name, stages)
    return variant


def _planes(variant: str, stages: Mapping[StageKey, Record]) -> list[Plane]:
    """The planes of a variant's network, each from the pieces that are there."""
    pieces: dict[int, list[Plane]] = {}
    for key in sorted((key for key in stages if key.kind == "plane" and key.variant == variant), key=str):
        payload = _payload(stages, key, PlanePayload)
        if payload is not None and key.part is not None:
            pieces.setdefault(PlanePart.parse(key.part).plane, []).append(payload.plane)
    return [join_pieces(found) for found in pieces.values()]


def _mark_points(variants: Sequence[Variant]) -> None:
    """The evaluated loss of every model that stands on a plane."""
    evaluations = {variant.name: variant.evaluation for variant in variants}
    for variant in variants:
        for plane in variant.planes:
            for point in plane.points:
                measured = evaluations.get(point.name)
                if measured is not None:
                    point.loss, point.accuracy = measured.loss, measured.accuracy


def _add_layer_curvature(variant: Variant, curvature: Curvature) -> None:
    """λmax and trace of each layer's block, beside what rounding did to it; the float model's layers are made here."""
    measured = {layer.name: layer for layer in curvature.layers}
    if not variant.layers:
        variant.layers = [Layer(name=layer.name, parameters=layer.parameters) for layer in curvature.layers]
    else:
        variant.layers = [layer.model_copy() for layer in variant.layers]
    for layer in variant.layers:
        if (found := measured.get(layer.name)) is not None:
            layer.trace = found.trace.value
            layer.lambda_max = found.lambda_max.value if found.lambda_max else None


def _payload(stages: Mapping[StageKey, Record], key: StageKey, kind: type[P]) -> P | None:
    payload = stages.get(key)
    return payload if isinstance(payload, kind) else None
