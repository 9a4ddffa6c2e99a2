"""Variants that are in memory, measured one after the other: the stages of a run without its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from quant_lens_engine.curvature import CurvatureMeasurement, HvpPlan, Start, start_pays
from quant_lens_engine.diagnosis import give_verdict
from quant_lens_engine.diagnosis.activation_statistics import FloatFlow, float_flow, measure_activations
from quant_lens_engine.diagnosis.batchnorm_drift import measure_batchnorm
from quant_lens_engine.diagnosis.layer_watch import WatchedLayer
from quant_lens_engine.errors import Cancelled, QuantLensError
from quant_lens_engine.evaluation import FloatOutputs, evaluate, float_outputs
from quant_lens_engine.landscape_measurement import LandscapeMeasurement
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.quantization import QuantizedVariant, calibrated_by
from quant_lens_engine.quantization.activation_quantizer import ActivationQuantizer
from quant_lens_engine.quantization.layers import survey_weights
from quant_lens_engine.schema import (
    FLOAT_VARIANT,
    ActivationOptions,
    Activations,
    ActivationsPayload,
    BatchNormDrift,
    BatchNormOptions,
    BatchNormPayload,
    Curvature,
    CurvatureOptions,
    CurvaturePayload,
    EvaluatePayload,
    Evaluation,
    InspectPayload,
    Record,
    RunResult,
    StageFailure,
    StageKey,
    VerdictPayload,
    assemble_variants,
)
from quant_lens_engine.schema.making import unmapped_note


@dataclass(frozen=True)
class VariantMeasurement:
    """How variants are measured.

    Attributes:
        objective: at the float point; every variant is measured on its sample.
        curvature: accuracy and effort of λ and the trace.
        landscape: how lines and planes are measured, on the same objective.
        seed: of directions, start vectors and probes; the same for every variant.
        progress: told where the work is.
        objective_on: the same objective on another device, for a custom model that runs on one of its own.
        hvp_plan: how Hessian products are taken, one of the four of :mod:`~quant_lens_engine.curvature.plan`; None:
            ``reuse`` or ``fresh``, by the size of the gradients' graphs.
        activations: bins of the histograms.
        batchnorm: whether running statistics are estimated anew.
        calibration: the objective on other rows, which new running statistics are taken from; None: the sample's.
        overlap: whether calibration rows are among the sample's.
    """

    objective: Objective
    curvature: CurvatureOptions
    landscape: LandscapeMeasurement
    seed: int = 0
    progress: Progress = SILENT
    objective_on: Callable[[torch.device], Objective] | None = None
    hvp_plan: HvpPlan | None = None
    activations: ActivationOptions = field(default_factory=ActivationOptions)
    batchnorm: BatchNormOptions = field(default_factory=BatchNormOptions)
    calibration: Objective | None = None
    overlap: bool = True
    _starts: list[Start | None] = field(default_factory=list, repr=False)
    _flows: list[FloatFlow] = field(default_factory=list, repr=False)

    def evaluate(self, variant: QuantizedVariant, reference: FloatOutputs | None, stage: str) -> EvaluatePayload:
        """Loss, accuracy and distance from the float model; by a custom model's own kernels where there is one."""
        if variant.own_model is None:
            measured = evaluate(variant.live(self.objective), reference=reference, progress=self.progress, stage=stage)
        else:
            measured = self._evaluate_own(variant.own_model, reference, stage)
        return EvaluatePayload(
            effective_bits=variant.effective_bits,
            size_bytes=variant.size_bytes,
            quantized_layers=variant.quantized_layers if variant.unmapped is None else None,
            skipped_layers=variant.skipped,
            layers=[layer.as_record() for layer in variant.layers],
            activations=[activation.as_record() for activation in variant.activations],
            calibrated_by=[] if variant.recipe is None else calibrated_by(variant.recipe),
            notes=variant.notes if variant.unmapped is None else [*variant.notes, unmapped_note(variant.unmapped)],
            unmapped=variant.unmapped,
            evaluation=measured,
            elapsed_s=measured.elapsed_s,
        )

    def curve(self, variant: QuantizedVariant, stage: str, checkpoint: Path | None = None) -> CurvaturePayload:
        """The spectrum at the dequantized weights; its layers are all that a scheme could round, rounded or not.

        ``checkpoint``: a folder of this stage, which a stopped one goes on from.
        """
        if variant.unmapped is not None:
            return CurvaturePayload(curvature=Curvature(reason=variant.unmapped))
        is_float = variant.name == FLOAT_VARIANT
        options = self.curvature
        if options.layer_eigenvalues == "float" and not is_float:
            options = options.model_copy(update={"layer_eigenvalues": "none"})
        live = variant.live(self.objective)
        measurement = CurvatureMeasurement(
            live,
            options,
            self.seed,
            self.hvp_plan,
            layers={site.layer: [site.parameter] for site in survey_weights(self.objective.model).sites},
            start=None if is_float or not start_pays(options, self.objective, live) else self._taught(stage),
            progress=self.progress,
            stage=stage,
            checkpoint=checkpoint,
        )
        measured = measurement.measure("float" if is_float else "dequantized")
        if is_float and not self._starts:
            self._starts.append(measurement.taught(FLOAT_VARIANT))
        return CurvaturePayload(curvature=measured, elapsed_s=measured.elapsed_s)

    def _taught(self, stage: str) -> Start | None:
        """What the float model's spectrum is; found again, the same to the digit, where another process measured it."""
        if not self._starts:
            measurement = CurvatureMeasurement(
                self.objective, self.curvature, self.seed, self.hvp_plan, progress=self.progress, stage=stage
            )
            self._starts.append(measurement.taught(FLOAT_VARIANT))
        return self._starts[0]

    def flow(self, variant: QuantizedVariant, stage: str) -> ActivationsPayload:
        """What each layer gives, and how far that is from the float model's."""
        if variant.unmapped is not None:
            return ActivationsPayload(activations=Activations(reason=variant.unmapped))
        layers = _watched_layers(self.objective.model, variant)
        if not self._flows:
            self._flows.append(float_flow(self.objective, layers, self.progress, stage))
        measured = measure_activations(
            self.objective,
            layers,
            self._flows[0],
            live=None if variant.name == FLOAT_VARIANT else variant.live,
            options=self.activations,
            progress=self.progress,
            stage=stage,
        )
        measured.notes = _own_kernels_note(variant)
        return ActivationsPayload(activations=measured, elapsed_s=measured.elapsed_s)

    def drift(self, variant: QuantizedVariant, stage: str) -> BatchNormPayload:
        """Running statistics against the data's, and what putting them right does."""
        if variant.unmapped is not None:
            return BatchNormPayload(batchnorm=BatchNormDrift(reason=variant.unmapped))
        measured = measure_batchnorm(
            variant.live(self.objective),
            None if self.calibration is None else variant.live(self.calibration),
            overlap=self.overlap,
            options=self.batchnorm,
            progress=self.progress,
            stage=stage,
        )
        measured.notes = _own_kernels_note(variant)
        return BatchNormPayload(batchnorm=measured, elapsed_s=measured.elapsed_s)

    def _evaluate_own(self, model: nn.Module, reference: FloatOutputs | None, stage: str) -> Evaluation:
        objective, device = self.objective, _device_of(model)
        if device != objective.device and self.objective_on is not None:
            objective = self.objective_on(device)
        return evaluate(objective, reference=reference, own_model=model, progress=self.progress, stage=stage)


def measure_variants(
    measurement: VariantMeasurement, variants: Mapping[str, QuantizedVariant], inspect: InspectPayload
) -> RunResult:
    """Every stage of every variant, the float model first.

    An evaluation that fails is raised, for a verdict would stand on nothing; any other stage that fails is listed in
    ``failures``, and the others go on.
    """
    stages: dict[StageKey, Record] = {StageKey("inspect"): inspect}
    failures: list[StageFailure] = []
    planes = measurement.landscape.planned([name for name in variants if name != FLOAT_VARIANT])
    recipes = {name: variant.recipe for name, variant in variants.items() if name != FLOAT_VARIANT}
    reference: FloatOutputs | None = None
    for name, variant in variants.items():
        evaluate_key, curvature_key, line_key = (StageKey(kind, name) for kind in ("evaluate", "curvature", "line"))
        flow_key, drift_key = StageKey("activations", name), StageKey("batchnorm", name)
        stages[evaluate_key] = measurement.evaluate(variant, reference, str(evaluate_key))
        reference = reference or float_outputs(measurement.objective, progress=measurement.progress)
        with _listed(failures, curvature_key):
            stages[curvature_key] = measurement.curve(variant, str(curvature_key))
        with _listed(failures, line_key):
            stages[line_key] = measurement.landscape.walk(variant, reference, str(line_key))
        for key, planned, part in planes.get(name, ()):
            with _listed(failures, key):
                stages[key] = measurement.landscape.piece(variant, planned, part, list(variants), str(key))
        if measurement.activations.enabled:
            with _listed(failures, flow_key):
                stages[flow_key] = measurement.flow(variant, str(flow_key))
        if measurement.batchnorm.enabled:
            with _listed(failures, drift_key):
                stages[drift_key] = measurement.drift(variant, str(drift_key))
    task = measurement.objective.task.name
    result = assemble_variants(recipes, stages, failures, seed=measurement.seed, task=task)
    for comparison in result.comparisons:
        verdict = give_verdict(result.variant(FLOAT_VARIANT), result.variant(comparison.variant), comparison)
        stages[StageKey("verdict", comparison.variant)] = VerdictPayload(verdict=verdict)
    return assemble_variants(recipes, stages, failures, seed=measurement.seed, task=task)


@contextmanager
def _listed(failures: list[StageFailure], key: StageKey) -> Iterator[None]:
    try:
        yield
    except Cancelled:
        raise
    except QuantLensError as error:
        failures.append(StageFailure(stage=key.kind, variant=key.variant, code=error.code, message=error.message))


def _watched_layers(model: nn.Module, variant: QuantizedVariant) -> list[WatchedLayer]:
    """Every layer with weights that a scheme could round; attention with its output projection, which it calls as a
    function, is one."""
    attentions = [name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)]
    sites = {site.layer: _whole_layer(site.module, attentions) for site in survey_weights(model).sites}
    rounded = {sites[layer.name] for layer in variant.layers if layer.name in sites}
    inputs: dict[str, ActivationQuantizer] = {}
    for quantizer in variant.forward.quantizers.values() if variant.forward is not None else ():
        if quantizer.place.is_layer_input:
            inputs.setdefault(_whole_layer(quantizer.place.module, attentions), quantizer)
    return [
        WatchedLayer(
            name=name,
            quantized=name in rounded or name in inputs,
            as_rounded=inputs[name].smoothed if name in inputs else None,
            span=_span_of(inputs[name]) if name in inputs else None,
        )
        for name in dict.fromkeys(sites.values())
    ]


def _whole_layer(module: str, attentions: list[str]) -> str:
    owner = module.rpartition(".")[0]
    return owner if owner in attentions else module


def _span_of(quantizer: ActivationQuantizer) -> tuple[float, float] | None:
    span = quantizer.span
    return None if span is None or span.low.numel() != 1 else (float(span.low), float(span.high))


def _own_kernels_note(variant: QuantizedVariant) -> list[str]:
    if variant.own_model is None:
        return []
    return ["at the dequantized weights, with activations in float: what its own kernels compute is not seen"]


def _device_of(model: nn.Module) -> torch.device:
    """Where a custom model runs; torch's packed modules hold no tensor that says so, and run on the CPU."""
    tensor = next(iter([*model.parameters(), *model.buffers()]), None)
    return torch.device("cpu") if tensor is None else tensor.device
