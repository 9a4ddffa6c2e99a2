"""Runs side by side: each metric with its difference from a baseline run, and the settings that differ.

Pure: records in, a table out. The compare page, ``GET /api/v1/compare`` and the Python client show the same table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from quant_lens_engine.errors import InputError
from quant_lens_engine.figures.metrics import METRICS, Measurement, Metric
from quant_lens_engine.schema import (
    DataFacts,
    MaybeFloat,
    ModelFacts,
    Recipe,
    Record,
    RunRecord,
    RunResult,
)
from quant_lens_engine.schema.recipe import known_recipes
from quant_lens_engine.schema.recipe_description import layer_parts

MAX_RUNS = 20
Direction = Literal["lower", "higher"]


class ComparedMetric(Record):
    """A column: what it is called, its unit, and which direction is better (null: neither)."""

    key: str
    label: str
    unit: str = ""
    direction: Direction | None = None
    meaning: str = ""


class ComparedValue(Record):
    """One number of one run, and how it stands to the baseline's.

    Attributes:
        value: in the metric's unit; null where the run has none (yet).
        uncertainty: standard error, or the residual of an eigenvalue.
        delta: value minus the baseline's; null for the baseline itself.
        delta_uncertainty: the two uncertainties added in quadrature (runs are not paired, so this is cautious).
        better: whether the difference is for the better; null where the metric has no direction, where nothing
            differs, or where the difference lies within ``delta_uncertainty``.
    """

    value: MaybeFloat = None
    uncertainty: MaybeFloat = None
    delta: MaybeFloat = None
    delta_uncertainty: MaybeFloat = None
    better: bool | None = None


class ComparedVariant(Record):
    """One run's row in the table of a variant; ``present`` is False where the run does not have the variant."""

    run_id: str
    present: bool = True
    verdict: str | None = None
    values: dict[str, ComparedValue] = {}


class VariantTable(Record):
    """A variant in every run, baseline first."""

    variant: str
    rows: list[ComparedVariant] = []


class ComparedRun(Record):
    """What heads a run's column."""

    id: str
    name: str = ""
    owner: str = ""
    state: str = ""
    created_at: str = ""
    model: ModelFacts = ModelFacts()
    data: DataFacts = DataFacts()


class SettingDifference(Record):
    """A setting that is not the same in all runs: its path in the specification, and each run's value."""

    setting: str
    values: dict[str, Any] = {}


class RunComparison(Record):
    """Everything that a comparison shows. ``settings`` are the differences among ``settings_total`` settings."""

    baseline: str
    runs: list[ComparedRun] = []
    metrics: list[ComparedMetric] = []
    variants: list[VariantTable] = []
    settings: list[SettingDifference] = []
    settings_total: int = 0
    notes: list[str] = []


def compare_runs(runs: Sequence[tuple[RunRecord, RunResult]], baseline_id: str | None = None) -> RunComparison:
    """Each metric of each variant of each run, with its difference from the baseline run.

    Args:
        runs: records with their results as far as they are known.
        baseline_id: the run that the others are held against; the first where it is not given.

    Raises:
        InputError: ``bad_comparison``: no runs, too many, or a baseline that is not one of them.

    Example:
        >>> from quant_lens_engine.schema import Variant
        >>> record = RunRecord(id="a", spec={"seed": 0})
        >>> compare_runs([(record, RunResult(variants=[Variant(name="FP32")]))], "a").baseline
        'a'
    """
    ordered = _baseline_first(runs, baseline_id)
    names = list(dict.fromkeys(variant.name for _, result in ordered for variant in result.variants))
    recipes = _recipes([record for record, _ in ordered])
    settings = {record.id: dict(_settings(record, result)) | recipes[record.id] for record, result in ordered}
    return RunComparison(
        baseline=ordered[0][0].id,
        runs=[_compared_run(record, result) for record, result in ordered],
        metrics=[
            ComparedMetric(
                key=metric.key,
                label=metric.label,
                unit=metric.unit,
                direction=metric.direction,
                meaning=metric.meaning,
            )
            for metric in METRICS.values()
        ],
        variants=[_variant_table(name, ordered) for name in names],
        settings=_differences(settings),
        settings_total=len({key for values in settings.values() for key in values}),
        notes=_notes(ordered),
    )


def _baseline_first(
    runs: Sequence[tuple[RunRecord, RunResult]], baseline_id: str | None
) -> list[tuple[RunRecord, RunResult]]:
    by_id = {record.id: (record, result) for record, result in runs}
    if not by_id:
        raise InputError("no runs to compare", code="bad_comparison", hint="name them: ?runs=ID,ID&baseline=ID")
    if len(by_id) > MAX_RUNS:
        raise InputError(f"{len(by_id)} runs are too many to compare", code="bad_comparison", hint=f"up to {MAX_RUNS}")
    baseline = baseline_id or next(iter(by_id))
    if baseline not in by_id:
        raise InputError(
            f"the baseline {baseline!r} is not among the runs that are compared",
            code="bad_comparison",
            hint="baseline is one of the ids in runs",
        )
    return [by_id.pop(baseline), *by_id.values()]


def _variant_table(name: str, runs: Sequence[tuple[RunRecord, RunResult]]) -> VariantTable:
    measured = [_measure(name, result) for _, result in runs]
    rows = []
    for index, ((record, result), values) in enumerate(zip(runs, measured, strict=True)):
        if values is None:
            rows.append(ComparedVariant(run_id=record.id, present=False))
            continue
        comparison = result.comparison(name)
        baseline = None if index == 0 else measured[0]
        rows.append(
            ComparedVariant(
                run_id=record.id,
                verdict=comparison.verdict.level if comparison and comparison.verdict else None,
                values={metric.key: _compare(metric, values, baseline) for metric in METRICS.values()},
            )
        )
    return VariantTable(variant=name, rows=rows)


def _measure(name: str, result: RunResult) -> dict[str, Measurement] | None:
    variant = next((variant for variant in result.variants if variant.name == name), None)
    return None if variant is None else {metric.key: metric.read(result, variant) for metric in METRICS.values()}


def _compare(
    metric: Metric, values: Mapping[str, Measurement], baseline: Mapping[str, Measurement] | None
) -> ComparedValue:
    reference = baseline[metric.key] if baseline else None
    return compare_values(metric, values[metric.key], reference)


def compare_values(metric: Metric, measured: Measurement, reference: Measurement | None) -> ComparedValue:
    """One number beside the baseline's; ``reference`` is None for the baseline itself."""
    compared = ComparedValue(value=measured.value, uncertainty=measured.error)
    if measured.value is None or reference is None or reference.value is None:
        return compared
    compared.delta = measured.value - reference.value
    if measured.error is not None or reference.error is not None:
        compared.delta_uncertainty = math.hypot(measured.error or 0.0, reference.error or 0.0)
    if metric.direction is not None and abs(compared.delta) > (compared.delta_uncertainty or 0.0):
        compared.better = (compared.delta < 0) == (metric.direction == "lower")
    return compared


def _compared_run(record: RunRecord, result: RunResult) -> ComparedRun:
    facts = record.model_dump(include={"id", "name", "owner", "state", "created_at"})
    return ComparedRun(**facts, model=result.model, data=result.data)


def _settings(record: RunRecord, result: RunResult) -> Iterator[tuple[str, Any]]:
    spec = {key: value for key, value in record.spec.items() if key != "name"}
    yield from _flat("", spec)
    yield from _flat("execution.", result.execution)
    yield "model.sha256", result.model.sha256
    yield "model.architecture", result.model.architecture
    yield "data.sha256", result.data.sha256
    yield "data.calibration_samples", result.data.calibration_samples
    yield "data.calibration_sha256", result.data.calibration_sha256
    yield "data.overlap", result.data.overlap
    yield "engine_version", result.engine_version


def _recipes(records: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """For each run and each scheme that all of them have: the algorithms of its recipes, and their layers."""
    by_run: dict[str, dict[str, list[Recipe]]] = {}
    for record in records:
        by_scheme = by_run.setdefault(record.id, {})
        for recipe in known_recipes(record.spec.get("schemes", [])):
            by_scheme.setdefault(recipe.scheme.name, []).append(recipe)
    shared = set.intersection(*(set(schemes) for schemes in by_run.values())) if by_run else set()
    return {
        run: {
            f"{scheme}: {what}": [words(recipe) for recipe in recipes]
            for scheme, recipes in schemes.items()
            if scheme in shared
            for what, words in (("algorithms", _algorithms), ("layers", _layers))
        }
        for run, schemes in by_run.items()
    }


def _algorithms(recipe: Recipe) -> str:
    return " + ".join(step.text for step in recipe.algorithms) or "RTN"


def _layers(recipe: Recipe) -> str:
    return "; ".join(f"{part} {words}" for part, words in layer_parts(recipe.layers)) or "all"


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def _differences(settings: Mapping[str, Mapping[str, Any]]) -> list[SettingDifference]:
    keys = dict.fromkeys(key for values in settings.values() for key in values)
    rows = [SettingDifference(setting=key, values={run: of.get(key) for run, of in settings.items()}) for key in keys]
    return [row for row in rows if any(value != next(iter(row.values.values())) for value in row.values.values())]


def _notes(runs: Sequence[tuple[RunRecord, RunResult]]) -> list[str]:
    notes = []
    known = [result for _, result in runs if result.data.sha256]
    if len({(result.data.sha256, result.data.samples) for result in known}) > 1:
        notes.append("The runs were measured on different rows: part of every difference is the sample.")
    elif len({result.seed for result in known}) > 1:
        notes.append("The seeds differ: so do the directions of the lines, and the rows where a sample was drawn.")
    overlapping = [record.name or record.id for record, result in runs if result.data.overlap]
    if overlapping:
        notes.append(f"Calibrated on rows that are measured too: {', '.join(overlapping)}.")
    if len({result.task for _, result in runs}) > 1:
        notes.append("The runs have different tasks: their losses mean different things.")
    if len({result.engine_version for _, result in runs}) > 1:
        notes.append("The runs come from different engine versions.")
    unfinished = [record.name or record.id for record, _ in runs if record.state in {"QUEUED", "RUNNING"}]
    if unfinished:
        notes.append(f"Not finished yet: {', '.join(unfinished)}.")
    return notes
