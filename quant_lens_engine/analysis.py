"""The stages of a run, in order, in one process: the same code for the command line and for a worker's share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quant_lens_engine.diagnosis import give_verdict
from quant_lens_engine.diagnosis.chance import is_above_chance
from quant_lens_engine.errors import Cancelled, InputError, InternalFault, QuantLensError, SpecError
from quant_lens_engine.evaluation import FloatOutputs, evaluate, float_outputs
from quant_lens_engine.execution import computing, resolve_execution
from quant_lens_engine.intake import Rows
from quant_lens_engine.intake.rows import IGNORED
from quant_lens_engine.landscape_measurement import LandscapeMeasurement
from quant_lens_engine.measurement import VariantMeasurement
from quant_lens_engine.objective.function import Point
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.quantization import (
    QuantizedVariant,
    as_stored,
    float_variant,
    quantize,
    refuse_recipe,
)
from quant_lens_engine.schema import (
    ESSENTIAL_STAGES,
    FLOAT_VARIANT,
    DataFacts,
    Evaluation,
    InspectPayload,
    ModelFacts,
    PlanePart,
    Recipe,
    Record,
    RunResult,
    RunSpec,
    StageFailure,
    StageKey,
    VerdictPayload,
    assemble,
    parse_run_spec,
    plan_stages,
    plan_units,
    planned_planes,
)
from quant_lens_engine.schema.baseline import BaselineCheck
from quant_lens_engine.stage_folder import StageFolder
from quant_lens_engine.subject import Files, Subject

_INSPECT = StageKey("inspect")

_KEPT_POINTS_BYTES = 2**28
"""Parameters of variants that planes lead to are kept up to this size; beyond it they are made again."""


class Workbench:
    """Model and rows of one run, in memory, and every stage that can be asked of them.

    Made by :meth:`open`. Two workbenches of the same spec and execution block give the same digits.
    """

    def __init__(self, subject: Subject, execution: dict[str, Any], progress: Progress) -> None:
        self.spec = spec = subject.spec
        self.execution = execution
        self.subject = subject
        self._progress = progress
        self._reference: FloatOutputs | None = None
        self._variant: QuantizedVariant | None = None
        self._points: dict[str, Point] = {}
        with computing(execution):
            objective = subject.objective(execution)
            self._calibration = subject.calibration_objective(objective, execution)
        self.measurement = VariantMeasurement(
            objective=objective,
            curvature=spec.analyses.curvature,
            landscape=LandscapeMeasurement(
                objective=objective,
                line=spec.analyses.line,
                plane=spec.analyses.plane,
                curvature=spec.analyses.curvature,
                seed=spec.seed,
                progress=progress,
                hvp_plan=execution["hvp_plan"],
                point_of=self._point_of,
                checkpoints=subject.trajectory,
            ),
            seed=spec.seed,
            progress=progress,
            hvp_plan=execution["hvp_plan"],
            activations=spec.analyses.activations,
            batchnorm=spec.analyses.batchnorm,
            calibration=self._calibration,
            overlap=subject.calibration is None or subject.calibration.overlap,
        )

    @classmethod
    def open(
        cls,
        spec: RunSpec,
        *,
        files: Files,
        plugins: Path | None = None,
        execution: dict[str, Any] | None = None,
        progress: Progress = SILENT,
        trusted: bool = False,
    ) -> Workbench:
        """Read model and data, build the model, and settle how it is computed.

        Args:
            spec: the run.
            files: where each file is: by its SHA-256, and by the name of each allowed path of the spec.
            plugins: the team's folder of plug-ins.
            execution: the block of the run's ``inspect`` stage, where that is finished; None: settled here.
            progress: told what is being read.
            trusted: a checkpoint that is code (TorchScript, a pickled module) may be run to read it.

        Raises:
            InputError: whatever is wrong with the files, the architecture, the labels or the device, typed.
        """
        progress.report("inspect", 0, 4, "reading the model")
        subject = Subject.read(spec, files, plugins, progress, trusted=trusted)
        progress.report("inspect", 3, 4, "settling how it is computed")
        settled = execution or resolve_execution(spec.execution, subject.objective, batch_size=spec.data.batch_size)
        return cls(subject, dict(settled), progress)

    def inspect(self) -> InspectPayload:
        """What was loaded, and the execution block that every worker of the run uses.

        Raises:
            SchemeError: a recipe that does not go with this model: better known before the others are measured.
        """
        found, spec = self.subject, self.spec
        for recipe in spec.schemes:
            refuse_recipe(self.measurement.objective.model, recipe, self.measurement.objective)
        self._progress.report("inspect", 4, 4)
        return InspectPayload(
            model=ModelFacts(
                sha256=found.model_sha256,
                format=found.checkpoint.format,
                architecture=found.architecture.name,
                parameters=sum(parameter.numel() for parameter in found.model.parameters()),
                size_bytes=found.checkpoint.size_bytes,
                trusted_code=found.checkpoint.ran,
            ),
            data=DataFacts(
                sha256=found.data_sha256,
                samples=len(found.rows.x),
                available=found.rows.available,
                batch_size=spec.data.batch_size,
                calibration_samples=0 if found.calibration is None else len(found.calibration.rows.x),
                calibration_sha256=None if found.calibration is None else found.calibration.sha256,
                overlap=found.calibration is not None and found.calibration.overlap,
                classes=found.rows.classes,
            ),
            execution=self.execution,
            architecture_source=found.architecture.source.sha256,
            libraries=dict(found.architecture.libraries),
            notes=[*found.checkpoint.notes, *found.notes],
        )

    def run(self, key: StageKey, known: Mapping[StageKey, Record], checkpoint: Path | None = None) -> Record:
        """Compute one stage.

        Args:
            key: which.
            known: the payloads of the stages before it; a verdict needs its variant's and the float model's.
            checkpoint: a folder of this stage alone, from which it goes on if it was stopped.

        Raises:
            QuantLensError: the stage has no result; the message says why.
        """
        started = time.perf_counter()
        with computing(self.execution):
            payload = self._compute(key, known, checkpoint)
        return payload.model_copy(update={"elapsed_s": time.perf_counter() - started})

    def _compute(self, key: StageKey, known: Mapping[StageKey, Record], checkpoint: Path | None) -> Record:
        if key.kind == "inspect":
            return self.inspect()
        if key.variant is None:
            raise InternalFault(f"the stage {key} needs a variant")
        if key.kind == "verdict":
            return self._judge(key.variant, known)
        variant = self._quantized(key.variant, str(key))
        if key.kind == "evaluate":
            return self.measurement.evaluate(variant, self._reference_for(key.variant), str(key))
        if key.kind == "curvature":
            return self.measurement.curve(variant, str(key), checkpoint)
        if key.kind == "line":
            return self.measurement.landscape.walk(variant, self._float_outputs(), str(key))
        if key.kind == "plane" and key.part is not None:
            names = [recipe.name for recipe in self.spec.schemes]
            part = PlanePart.parse(key.part)
            plane = planned_planes(self.spec.analyses.plane, names)[part.plane]
            return self.measurement.landscape.piece(variant, plane, part, [FLOAT_VARIANT, *names], str(key))
        if key.kind == "activations":
            return self.measurement.flow(variant, str(key))
        if key.kind == "batchnorm":
            return self.measurement.drift(variant, str(key))
        raise InternalFault(f"there is no stage {key}")

    def _judge(self, variant: str, known: Mapping[StageKey, Record]) -> VerdictPayload:
        result = assemble(self.spec, known)
        comparison = result.comparison(variant)
        if comparison is None or result.variant(variant).evaluation is None:
            raise InternalFault(f"a verdict on {variant} before it was evaluated")
        return VerdictPayload(verdict=give_verdict(result.variant(FLOAT_VARIANT), result.variant(variant), comparison))

    def _reference_for(self, variant: str) -> FloatOutputs | None:
        return None if variant == FLOAT_VARIANT else self._float_outputs()

    def _float_outputs(self) -> FloatOutputs:
        if self._reference is None:
            self._reference = float_outputs(self.measurement.objective, progress=self._progress)
        return self._reference

    def _quantized(self, name: str, stage: str) -> QuantizedVariant:
        """The variant called ``name``; the last one is kept, its stages come one after the other."""
        if self._variant is None or self._variant.name != name:
            self._variant = None
            self._variant = self._make(name, stage)
        return self._variant

    def _point_of(self, name: str) -> Point:
        """The dequantized parameters of a variant, for directions and for marks; kept while they are small."""
        if name in self._points:
            return self._points[name]
        point = self._make(name, "").point
        if not point:
            raise InputError(f"the variant {name!r} has no weights of the float model's names", code="unmapped_variant")
        size = sum(tensor.numel() * tensor.element_size() for tensor in point.values())
        if size * (len(self._points) + 1) <= _KEPT_POINTS_BYTES:
            self._points[name] = point
        return point

    def _make(self, name: str, stage: str) -> QuantizedVariant:
        objective = self.measurement.objective
        if name == FLOAT_VARIANT:
            variant = float_variant(objective.model)
        else:
            variant = quantize(
                objective.model,
                self._recipe(name),
                self._calibration or objective,
                overlap=self.subject.calibration is None or self.subject.calibration.overlap,
                seed=self.spec.seed,
                progress=self._progress,
                stage=stage,
            )
        return as_stored(variant, self.subject.model)

    def _recipe(self, name: str) -> Recipe:
        recipe = next((recipe for recipe in self.spec.schemes if recipe.name == name), None)
        if recipe is None:
            raise SpecError(f"the run has no variant {name!r}", code="unknown_variant")
        return recipe


def analyze(
    spec: RunSpec | dict[str, Any], *, files: Files | None = None, plugins: Path | None = None,
    progress: Progress = SILENT, checkpoints: Path | None = None, trust_checkpoint: bool = False,
) -> RunResult:  # fmt: skip
    """Every stage of a run, in one process.

    Args:
        spec: the run, as a record or as JSON-like data.
        files: see :meth:`Workbench.open`; examples need none.
        plugins: the team's folder of plug-ins.
        progress: told where the work is; may raise ``Cancelled``.
        checkpoints: a folder for what a stopped analysis has; the same one goes on from there.
        trust_checkpoint: a model file that is code (TorchScript, a whole pickled module) is run, in this process and
            without walls, to read it. Only for files that you would run as a program.

    Returns:
        the result; a stage that failed stands in its ``failures``, and the others go on. A variant that could not be
        evaluated has no other stage.

    Raises:
        QuantLensError: ``inspect`` or the float model's evaluation failed, without which there is no result.

    Example:
        >>> result = analyze({"model": {"example": "digits-mlp"}, "data": {"example": "digits", "limit": 64},
        ...                   "schemes": ["int8"], "analyses": {"preset": "quick", "line": {"steps": 3}}})
        >>> [variant.name for variant in result.variants], result.data.samples
        (['FP32', 'int8'], 64)
    """
    parsed = spec if isinstance(spec, RunSpec) else parse_run_spec(spec)
    bench = Workbench.open(parsed, files=files or {}, plugins=plugins, progress=progress, trusted=trust_checkpoint)
    stages: dict[StageKey, Record] = {}
    failures: list[StageFailure] = []
    lost: set[str | None] = set()
    folder = None if checkpoints is None else StageFolder(checkpoints)
    for unit in plan_units(parsed):
        if lost & set(unit.after):
            continue
        for key in unit.stages:
            if key.variant in lost:
                continue
            try:
                stages[key] = _finished(bench, key, stages, folder)
            except Cancelled:
                raise
            except QuantLensError as error:
                if key.kind in ESSENTIAL_STAGES:
                    if key.variant in (None, FLOAT_VARIANT):
                        raise
                    lost.add(key.variant)
                failures.append(
                    StageFailure(stage=key.kind, variant=key.variant, code=error.code, message=error.message)
                )
    inspect = stages.get(_INSPECT)
    if folder is not None and isinstance(inspect, InspectPayload):
        folder.clear(parsed, inspect, plan_stages(parsed))
    return assemble(parsed, stages, failures)


def _finished(
    bench: Workbench, key: StageKey, stages: Mapping[StageKey, Record], folder: StageFolder | None
) -> Record:  # fmt: skip
    """The result of a stage: from the folder where an earlier analysis has left it, computed otherwise."""
    inspect = stages.get(_INSPECT)
    if folder is None or not isinstance(inspect, InspectPayload) or key.kind == "verdict":
        return bench.run(key, stages)
    known = folder.find(bench.spec, inspect, key)
    if known is None:
        with folder.workplace(bench.spec, inspect, key) as place:
            known = bench.run(key, stages, place)
        folder.keep(bench.spec, inspect, key, known)
    return known


def check_baseline(
    spec: RunSpec, files: Files, plugins: Path | None = None, rows: int = 256, progress: Progress = SILENT, *,
    trusted: bool = False,
) -> BaselineCheck:  # fmt: skip
    """The float model on some rows: whether labels and transform are right, and how fast a pass is.

    Args:
        spec: the run as far as it is chosen; its schemes are not looked at.
        files: see :meth:`Workbench.open`.
        plugins: the team's folder of plug-ins.
        rows: at most so many.
        progress: told what is being read.
        trusted: see :meth:`Workbench.open`.
    """
    limit = rows if spec.data.limit is None else min(rows, spec.data.limit)
    # Without schemes there is nothing to calibrate, and no recipe that could be at fault.
    few = spec.model_copy(update={"data": spec.data.model_copy(update={"limit": limit}), "schemes": ()})
    bench = Workbench.open(few, files=files, plugins=plugins, progress=progress, trusted=trusted)
    objective = bench.measurement.objective
    with computing(bench.execution):
        measured = evaluate(objective, progress=progress, stage="check")
        started = time.perf_counter()
        objective.loss()  # a second pass: the first one warmed up
        elapsed_s = time.perf_counter() - started
    found = bench.subject
    check = BaselineCheck(
        architecture=found.architecture.name,
        samples=objective.samples,
        available=found.rows.available,
        accuracy=measured.accuracy,
        accuracy_standard_error=measured.accuracy_standard_error,
        loss=measured.loss,
        loss_standard_error=measured.loss_standard_error,
        classes=_count_classes(found.rows),
        outputs=found.outputs,
        seconds_per_row=elapsed_s / max(1, objective.samples),
        device=str(bench.execution["device"]),
    )
    _judge_baseline(check, found.rows, measured)
    return check


def _count_classes(rows: Rows) -> int | None:
    """Classes that occur; None where there are no labels, or tokens in their place."""
    if rows.y is None or rows.mask is not None:
        return None
    return len(np.unique(rows.y[rows.y != IGNORED]))


def _judge_baseline(check: BaselineCheck, rows: Rows, measured: Evaluation) -> None:
    """Is the accuracy that of a trained model, or nearer to always naming the commonest class?

    A missing mean and std leave an image model far above guessing and far below itself (a LeNet on MNIST: 29 % for
    99 %), so half the way from guessing to perfect is asked for.
    """
    above_guessing = is_above_chance(measured)
    if rows.y is None or above_guessing is None or check.accuracy is None or measured.chance is None:
        check.message = "the model runs on these rows"
        return
    texts, guess = rows.mask is not None, measured.chance
    check.agrees = above_guessing and (texts or check.accuracy >= (1 + guess) / 2)
    if texts:
        check.message = f"names the next or hidden token better than the commonest one would ({100 * guess:.0f} %)"
        if not check.agrees:
            check.message = f"no better than always naming the commonest token ({100 * guess:.0f} %)"
            check.hint = "are the texts in the model's language, and the tokenizer its own?"
        return
    if check.agrees:
        check.message = "labels and transform agree"
        return
    if above_guessing:
        check.message = f"better than guessing ({100 * guess:.0f} %), but low for a trained model"
        check.hint = "check the transform: scale, mean and std as in training, and the layout"
        return
    check.message = f"no better than always naming the commonest class ({100 * guess:.0f} %)"
    check.hint = (
        "labels or transform are wrong, or the architecture is another one: check scale, mean, std, the layout, "
        "and that classes are numbered as in training"
    )
