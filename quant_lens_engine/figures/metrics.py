"""Every number that a variant has, declared once: name, unit, direction, meaning, and how it is read from a result.

Tables, the comparison, the API and the help page take their columns from here; a new metric is one more entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from quant_lens_engine.registry import Registry
from quant_lens_engine.schema import RunResult, Sharpness, Variant, numbers

Direction = Literal["lower", "higher"]


@dataclass(frozen=True)
class Measurement:
    """A number in its metric's stored unit, its error, and a word about it (``not converged``)."""

    value: float | None
    error: float | None = None
    note: str = ""


Reader = Callable[[RunResult, Variant], Measurement]


@dataclass(frozen=True)
class Metric:
    """One number of a variant.

    Attributes:
        key: for programs; never changes.
        label: head of a column.
        unit: of the stored number.
        direction: which way is better; None where neither is.
        meaning: in one sentence.
        error_meaning: what stands behind the ±.
        read: the number of a variant in a result.
        shown_unit: of the number on a page, where it differs.
        scale: from the stored to the shown number.
        signed: a difference, written with its sign.
        relative: a difference of it is said in per cent.
        form: how it is written; ``size`` chooses kB, MB or GB by itself, ``ratio`` puts × behind.
    """

    key: str
    label: str
    unit: str
    direction: Direction | None
    meaning: str
    read: Reader
    error_meaning: str = ""
    shown_unit: str = ""
    scale: float = 1.0
    signed: bool = False
    relative: bool = False
    form: Literal["number", "size", "ratio"] = "number"

    @property
    def head(self) -> str:
        """Label and unit for the head of a column."""
        unit = self.shown_unit or self.unit
        if self.form != "number" or unit in self.label.lower():
            return self.label
        return f"{self.label} ({unit})" if unit else self.label

    def written(self, measurement: Measurement) -> tuple[str, str]:
        """Value and error, scaled and written."""
        if self.form == "size":
            return numbers.size(measurement.value), ""
        if self.form == "ratio" and measurement.value is not None:
            return f"{numbers.number(measurement.value)} ×", ""
        return numbers.measured(self._scaled(measurement.value), self._scaled(measurement.error), signed=self.signed)

    def exactly(self, measurement: Measurement) -> str:
        """Every digit, with error and unit; for hovering."""
        unit = f" {self.unit}" if self.unit else ""
        error = "" if measurement.error is None else f" ± {numbers.exact(measurement.error)}"
        said = f" ({self.error_meaning})" if error and self.error_meaning else ""
        note = f"; {measurement.note}" if measurement.note else ""
        return f"{numbers.exact(measurement.value)}{error}{unit}{said}{note}"

    def _scaled(self, value: float | None) -> float | None:
        return None if value is None else value * self.scale


METRICS: Registry[Metric] = Registry("metric")


def variant_metrics(*keys: str) -> list[Metric]:
    """The metrics of these keys, or all of them."""
    return [METRICS[key] for key in keys or METRICS]


def _evaluation(field: str, error: str = "") -> Reader:
    def read(_: RunResult, variant: Variant) -> Measurement:
        evaluation = variant.evaluation
        if evaluation is None:
            return Measurement(None)
        return Measurement(getattr(evaluation, field), getattr(evaluation, error) if error else None)

    return read


def _eigenvalue(which: Literal["lambda_max", "lambda_min"]) -> Reader:
    def read(_: RunResult, variant: Variant) -> Measurement:
        if variant.curvature is None:
            return Measurement(None)
        found = getattr(variant.curvature, which)
        if found.value is None:
            return Measurement(None, note=variant.curvature.reason or "")
        return Measurement(found.value, found.residual, "" if variant.curvature.converged else "not converged")

    return read


def _batch_spread(_: RunResult, variant: Variant) -> Measurement:
    return Measurement(variant.curvature.lambda_max.batch_std if variant.curvature else None)


def _trace(_: RunResult, variant: Variant) -> Measurement:
    if variant.curvature is None:
        return Measurement(None)
    trace = variant.curvature.trace
    return Measurement(trace.value, trace.standard_error, variant.curvature.reason or "" if trace.value is None else "")


def _counted(which: Literal["negative", "positive", "effective_rank"]) -> Reader:
    """An estimate of a number of eigenvalues; without a standard error, half its interval is the error."""

    def read(_: RunResult, variant: Variant) -> Measurement:
        curvature = variant.curvature
        found = getattr(curvature, which) if curvature else None
        if found is None or found.value is None:
            return Measurement(None, note=(curvature.reason or "no density was asked for") if curvature else "")
        error = found.standard_error
        if error is None and found.lower is not None and found.upper is not None:
            error = (found.upper - found.lower) / 2
        return Measurement(found.value, error)

    return read


def _relative(which: Literal["relative_lambda_max", "relative_trace"]) -> Reader:
    def read(_: RunResult, variant: Variant) -> Measurement:
        sharpness, reason = _sharpness_of(variant)
        if sharpness is None:
            return Measurement(None, note=reason)
        if which == "relative_trace":
            trace = sharpness.relative_trace
            return Measurement(trace.value, trace.standard_error, reason if trace.value is None else "")
        found = sharpness.relative_lambda_max
        return Measurement(found.value, found.residual, reason if found.value is None else "")

    return read


def _rise(which: Literal["adaptive", "plain"]) -> Reader:
    def read(_: RunResult, variant: Variant) -> Measurement:
        sharpness, reason = _sharpness_of(variant)
        found = getattr(sharpness, which).rise if sharpness else None
        return Measurement(found, note=reason if found is None else "")

    return read


def _sharpness_of(variant: Variant) -> tuple[Sharpness | None, str]:
    """The invariant forms, and why one of them may be missing."""
    curvature = variant.curvature
    if curvature is None:
        return None, ""
    missing = curvature.reason or ("" if curvature.sharpness else "not asked for")
    return curvature.sharpness, missing


def _sharpness_ratio(result: RunResult, variant: Variant) -> Measurement:
    comparison = result.comparison(variant.name)
    if comparison is None:
        return Measurement(None)
    ratio = comparison.sharpness_ratio
    if ratio is None:
        measured = variant.curvature is not None
        return Measurement(None, note="λmax(FP32) is within its own uncertainty of zero" if measured else "")
    parts = [item.curvature.lambda_max for item in (variant, result.variant(comparison.baseline)) if item.curvature]
    relative = [part.residual / part.value for part in parts if part.residual is not None and part.value]
    return Measurement(ratio, abs(ratio) * math.hypot(*relative) if len(relative) == 2 else None)


def _basin_width(landscape: str) -> Reader:
    def read(_: RunResult, variant: Variant) -> Measurement:
        line = next((line for line in variant.lines if line.landscape == landscape), None)
        if line is None:
            return Measurement(None)
        leaves = "" if line.basin_width is not None else line.reason or "the line does not leave the basin"
        return Measurement(line.basin_width, note=leaves)

    return read


def _variant_field(field: str) -> Reader:
    def read(_: RunResult, variant: Variant) -> Measurement:
        value = getattr(variant, field)
        return Measurement(None if value is None else float(value))

    return read


_SAMPLING = "standard error of the sample"
_PAIRED = "standard error, paired over the rows"

for _metric in (
    Metric(
        "effective_bits", "Bits / weight", "bits", None,
        "Stored bits of the quantized weights, with their scales and zero points, divided by their count.",
        _variant_field("effective_bits"),
    ),
    Metric(
        "size_bytes", "Size", "bytes", "lower",
        "The whole model as it would be stored, layers left in float included.",
        _variant_field("size_bytes"), form="size",
    ),
    Metric(
        "loss", "Loss L", "nats", "lower",
        "Mean loss over the whole sample, weighted by the criterion's own denominator.",
        _evaluation("loss", "loss_standard_error"), _SAMPLING,
    ),
    Metric(
        "delta_loss", "ΔL", "nats", "lower",
        "Loss minus the float model's on the same rows; its error is paired, so far smaller than the loss's own.",
        _evaluation("delta_loss", "delta_loss_standard_error"), _PAIRED, signed=True,
    ),
    Metric(
        "accuracy", "Accuracy", "fraction", "higher",
        "Share of rows whose first class is the label.",
        _evaluation("accuracy", "accuracy_standard_error"), _SAMPLING, "%", 100.0,
    ),
    Metric(
        "delta_accuracy", "Δacc", "fraction", "higher",
        "Accuracy minus the float model's on the same rows, in percentage points. The verdict rests on it.",
        _evaluation("delta_accuracy", "delta_accuracy_standard_error"), _PAIRED, "pts", 100.0, signed=True,
    ),
    Metric(
        "lambda_max", "λmax", "", "lower",
        "Largest eigenvalue of the loss Hessian at the dequantized weights: how sharp the minimum is (loss units).",
        _eigenvalue("lambda_max"), "residual ‖Hv − λv‖", relative=True,
    ),
    Metric(
        "lambda_max_spread", "λ over shards", "", None,
        "Standard deviation of vᵀHv over eight equal shards of the sample: what λmax owes to the rows.",
        _batch_spread,
    ),
    Metric(
        "sharpness_ratio", "λ ratio", "×", "lower",
        "λmax over the float model's λmax. Above 1.5 it is a signal; it is never the judge.",
        _sharpness_ratio, "residuals of both, in quadrature", form="ratio",
    ),
    Metric(
        "lambda_min", "λmin", "", None,
        "Smallest eigenvalue of the loss Hessian. Below zero there is a direction along which the loss still falls.",
        _eigenvalue("lambda_min"), "residual ‖Hv − λv‖",
    ),
    Metric(
        "trace", "Tr H", "", "lower",
        "Trace of the loss Hessian: the sum of all its eigenvalues, by Hutchinson's probes.",
        _trace, "standard error of the probes", relative=True,
    ),
    Metric(
        "effective_rank", "Effective rank", "eigenvalues", None,
        "(Tr H)² / Tr H²: how many equal eigenvalues would have the same sum and the same sum of squares.",
        _counted("effective_rank"), "standard error of the probes",
    ),
    Metric(
        "negative_eigenvalues", "Negative eigenvalues", "eigenvalues", None,
        "Eigenvalues that are clearly negative, by over a thousandth of the largest |λ|: the loss curves down there.",
        _counted("negative"), "half the interval over random starts",
    ),
    Metric(
        "positive_eigenvalues", "Positive eigenvalues", "eigenvalues", None,
        "Eigenvalues that are clearly positive, by over a thousandth of the largest |λ|: what the loss feels at all.",
        _counted("positive"), "half the interval over random starts",
    ),
    Metric(
        "relative_lambda_max", "Relative λmax", "", "lower",
        "Largest eigenvalue of DHD, weights measured in norms of their filter: rescaling a filter leaves it as it is.",
        _relative("relative_lambda_max"), "residual", relative=True,
    ),
    Metric(
        "relative_trace", "Relative Tr H", "", "lower",
        "Σ ‖w_f‖² Tr H_f over filters f: the trace that rescaling a filter leaves as it is.",
        _relative("relative_trace"), "standard error of the probes", relative=True,
    ),
    Metric(
        "adaptive_rise", "ASAM rise", "nats", "lower",
        "Largest rise of the loss found within ‖D⁻¹ε‖ ≤ ρ, a lower bound: worst case, free of scale.",
        _rise("adaptive"),
    ),
    Metric(
        "plain_rise", "SAM rise", "nats", "lower",
        "Largest rise of the loss found within ‖ε‖ ≤ ρ, a lower bound. Rescaling a filter changes it.",
        _rise("plain"),
    ),
    Metric(
        "basin_width", "Basin width", "α", "higher",
        "Width over which the smooth line's mean loss stays near its value at α = 0.",
        _basin_width("smooth"),
    ),
    Metric(
        "kl_to_float", "KL to FP32", "nats", "lower",
        "Mean divergence KL(float ‖ variant) of the outputs.",
        _evaluation("kl_to_float"),
    ),
    Metric(
        "top1_agreement", "Top-1 agree", "fraction", "higher",
        "Share of rows on which variant and float model name the same class.",
        _evaluation("top1_agreement"), "", "%", 100.0,
    ),
):  # fmt: skip
    METRICS.add(_metric.key, _metric)
