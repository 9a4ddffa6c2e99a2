"""Every number that a variant has, declared once: name, unit, direction, meaning, and how it is read from a result.

Tables, the comparison, the API and the help page take their columns from here; a new metric is one more entry.
"""

from __future__ import annotations

from quant_lens_engine.figures.metric import Measurement, Metric
from quant_lens_engine.figures.metric_readers import (
    along_line,
    barrier,
    batch_spread,
    counted,
    eigenvalue,
    evaluation,
    relative,
    rise,
    sharpness_ratio,
    trace,
    variant_field,
)
from quant_lens_engine.registry import Registry

__all__ = ["METRICS", "Measurement", "Metric", "variant_metrics"]

METRICS: Registry[Metric] = Registry("metric")


def variant_metrics(*keys: str) -> list[Metric]:
    """The metrics of these keys, or all of them."""
    return [METRICS[key] for key in keys or METRICS]


_SAMPLING = "standard error of the sample"
_PAIRED = "standard error, paired over the rows"

for _metric in (
    Metric(
        "effective_bits", "Bits / weight", "bits", None,
        "Stored bits of the quantized weights, with their scales and zero points, divided by their count.",
        variant_field("effective_bits"),
    ),
    Metric(
        "size_bytes", "Size", "bytes", "lower",
        "The whole model as it would be stored, layers left in float included.",
        variant_field("size_bytes"), form="size",
    ),
    Metric(
        "loss", "Loss L", "nats", "lower",
        "Mean loss over the whole sample, weighted by the criterion's own denominator.",
        evaluation("loss", "loss_standard_error"), _SAMPLING,
    ),
    Metric(
        "delta_loss", "ΔL", "nats", "lower",
        "Loss minus the float model's on the same rows; its error is paired, so far smaller than the loss's own.",
        evaluation("delta_loss", "delta_loss_standard_error"), _PAIRED, signed=True,
    ),
    Metric(
        "accuracy", "Accuracy", "fraction", "higher",
        "Share of answers that are right: rows; labels of multi-label; pixels; tokens.",
        evaluation("accuracy", "accuracy_standard_error"), _SAMPLING, "%", 100.0,
    ),
    Metric(
        "mean_iou", "mIoU", "fraction", "higher",
        "Segmentation: mean over classes of intersection over union of labelled and answered pixels.",
        evaluation("mean_iou"), "", "%", 100.0,
    ),
    Metric(
        "f1", "F1", "fraction", "higher",
        "Multi-label and token classification (token by token): mean over classes of F1, classes that occur alone.",
        evaluation("f1"), "", "%", 100.0,
    ),
    Metric(
        "delta_accuracy", "Δacc", "fraction", "higher",
        "Accuracy minus the float model's on the same rows, in percentage points. The verdict rests on it.",
        evaluation("delta_accuracy", "delta_accuracy_standard_error"), _PAIRED, "pts", 100.0, signed=True,
    ),
    Metric(
        "lambda_max", "λmax", "", "lower",
        "Largest eigenvalue of the loss Hessian at the dequantized weights: how sharp the minimum is (loss units).",
        eigenvalue("lambda_max"), "the farther end of its interval", relative=True,
    ),
    Metric(
        "lambda_max_spread", "λ over shards", "", None,
        "Standard deviation of vᵀHv over eight equal shards of the sample: what λmax owes to the rows.",
        batch_spread,
    ),
    Metric(
        "sharpness_ratio", "λ ratio", "×", "lower",
        "λmax over the float model's λmax. Above 1.5 it is a signal; it is never the judge.",
        sharpness_ratio, "the errors of both, in quadrature", form="ratio",
    ),
    Metric(
        "lambda_min", "λmin", "", None,
        "Smallest eigenvalue of the loss Hessian. Below zero there is a direction along which the loss still falls.",
        eigenvalue("lambda_min"), "the farther end of its interval",
    ),
    Metric(
        "trace", "Tr H", "", "lower",
        "Trace of the loss Hessian: the sum of all its eigenvalues, by Hutchinson's probes.",
        trace, "standard error of the probes", relative=True,
    ),
    Metric(
        "effective_rank", "Effective rank", "eigenvalues", None,
        "(Tr H)² / Tr H²: how many equal eigenvalues would have the same sum and the same sum of squares.",
        counted("effective_rank"), "standard error of the probes",
    ),
    Metric(
        "negative_eigenvalues", "Negative eigenvalues", "eigenvalues", None,
        "Eigenvalues that are clearly negative, by over a thousandth of the largest |λ|: the loss curves down there.",
        counted("negative"), "half the interval over random starts",
    ),
    Metric(
        "positive_eigenvalues", "Positive eigenvalues", "eigenvalues", None,
        "Eigenvalues that are clearly positive, by over a thousandth of the largest |λ|: what the loss feels at all.",
        counted("positive"), "half the interval over random starts",
    ),
    Metric(
        "relative_lambda_max", "Relative λmax", "", "lower",
        "Largest eigenvalue of DHD, weights measured in norms of their filter: scaling a whole layer, or filters in "
        "front of a normalisation, leaves it as it is; scaling a single ReLU neuron does not.",
        relative("relative_lambda_max"), "the farther end of its interval", relative=True,
    ),
    Metric(
        "relative_trace", "Relative Tr H", "", "lower",
        "Σ ‖w_f‖² Tr H_f over filters f. Scaling a whole layer, or filters in front of a normalisation, leaves it as "
        "it is; scaling a single ReLU neuron does not.",
        relative("relative_trace"), "standard error of the probes", relative=True,
    ),
    Metric(
        "adaptive_rise", "ASAM rise", "nats", "lower",
        "Largest rise of the loss found within ‖D⁻¹ε‖ ≤ ρ, a lower bound. Scaling a whole layer, or filters in front "
        "of a normalisation, leaves it as it is; scaling a single ReLU neuron does not.",
        rise("adaptive"),
    ),
    Metric(
        "plain_rise", "SAM rise", "nats", "lower",
        "Largest rise of the loss found within ‖ε‖ ≤ ρ, a lower bound. Scaling changes it.",
        rise("plain"),
    ),
    Metric(
        "basin_width", "Basin width", "α", "higher",
        "Width over which the smooth line's mean loss stays below its value at α = 0 plus the float model's loss again "
        "(0.1 nats where that is below 0.01), along the random directions.",
        along_line("smooth", "basin_width"), "standard deviation over the directions",
    ),
    Metric(
        "basin_asymmetry", "Basin asymmetry", "", None,
        "(right − left) / (right + left) of the smooth basin's two halves, −1 to 1; 0 is symmetric.",
        along_line("smooth", "basin_asymmetry"), signed=True,
    ),
    Metric(
        "roughness", "Roughness", "nats", "lower",
        "Root mean square of deployed − smooth along the random directions: how far the staircase of quantization "
        "strays from the curve that λ describes.",
        along_line("deployed", "roughness"),
    ),
    Metric(
        "epsilon_sharpness", "ε-sharpness", "%", "lower",
        "Largest rise of the smooth loss within |α| ≤ ε of the random directions, in per cent of 1 + L(0).",
        along_line("smooth", "epsilon_sharpness"),
    ),
    Metric(
        "barrier", "Barrier", "nats", "lower",
        "Largest rise of the loss above the straight line between FP32's and the variant's, on the path from FP32 to "
        "the variant; 0: there is none.",
        barrier,
    ),
    Metric(
        "kl_to_float", "KL to FP32", "nats", "lower",
        "Mean divergence KL(float ‖ variant) of the outputs.",
        evaluation("kl_to_float"),
    ),
    Metric(
        "top1_agreement", "Top-1 agree", "fraction", "higher",
        "Share of rows on which variant and float model name the same class.",
        evaluation("top1_agreement"), "", "%", 100.0,
    ),
):  # fmt: skip
    METRICS.add(_metric.key, _metric)
