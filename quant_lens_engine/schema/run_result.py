"""RunResult: what a run found. Every number has its unit and meaning here; null means: no meaning, or not finished."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from quant_lens_engine.schema.activations import Activations
from quant_lens_engine.schema.base import MaybeFloat, Record
from quant_lens_engine.schema.basin_ratio import BasinRatio
from quant_lens_engine.schema.batchnorm import BatchNormDrift
from quant_lens_engine.schema.curvature import Curvature
from quant_lens_engine.schema.landscape import Line, Plane

SCHEMA_VERSION = 1
FLOAT_VARIANT = "FP32"

VerdictLevel = Literal["safe", "caution", "degraded", "collapsed"]


class SkippedLayer(Record):
    """A layer with weights that stayed in float, and why."""

    name: str
    reason: str


class Evaluation(Record):
    """A variant on all rows of the sample.

    Attributes:
        loss: mean loss, weighted by the criterion's own denominator (nats for cross-entropy).
        loss_standard_error: sampling error of ``loss`` over rows.
        accuracy: fraction of ``answers`` that are right, 0 to 1: the top class is the label; of multi-label the logit's
            sign is. Null where there are no classes.
        accuracy_standard_error: sampling error of ``accuracy``.
        mean_iou: of segmentation: the mean over classes of intersection over union of labelled and answered pixels,
            0 to 1; classes that occur in neither are left out. Null for other tasks.
        f1: of token classification (a token at a time) and multi-label: the mean over classes of F1, likewise.
        delta_loss: loss minus the float model's, on the same rows; null for the float model.
        delta_loss_standard_error: paired over rows, so usually far smaller than ``loss_standard_error``.
        delta_accuracy: accuracy minus the float model's, 0 to 1.
        delta_accuracy_standard_error: paired over rows.
        kl_to_float: mean KL(float ‖ variant) over rows, nats; null where outputs are not categorical.
        top1_agreement: fraction of rows on which both name the same class.
        samples: how many ``answers`` there are.
        answers: what is right or wrong: ``rows``; ``labels`` (rows × classes) of multi-label; ``pixels``; ``tokens``.
        majority: of the float model where answers are labels, pixels or tags: the accuracy of always giving the most
            frequent answer (of multi-label: the more frequent of yes and no for each class), 0 to 1.
        chance: of the float model where there are labels: likewise, with one answer a row too; below three standard
            errors above it an accuracy says nothing of a trained model.
        forward: what was run: ``fake-quant`` (dequantized weights in float) or ``own`` (the variant's own kernels).
    """

    loss: MaybeFloat = None
    loss_standard_error: MaybeFloat = None
    accuracy: MaybeFloat = None
    accuracy_standard_error: MaybeFloat = None
    mean_iou: MaybeFloat = None
    f1: MaybeFloat = None
    delta_loss: MaybeFloat = None
    delta_loss_standard_error: MaybeFloat = None
    delta_accuracy: MaybeFloat = None
    delta_accuracy_standard_error: MaybeFloat = None
    samples: int = 0
    answers: str = "rows"
    majority: MaybeFloat = None
    chance: MaybeFloat = None
    kl_to_float: MaybeFloat = None
    top1_agreement: MaybeFloat = None
    forward: Literal["float", "fake-quant", "own"] = "fake-quant"
    elapsed_s: float = 0.0


class Layer(Record):
    """One quantized layer."""

    name: str
    kind: str = ""
    parameters: int = 0
    sqnr_db: MaybeFloat = None
    weight_mse: MaybeFloat = None
    lambda_max: MaybeFloat = None
    trace: MaybeFloat = None
    omega: MaybeFloat = None
    predicted_delta_loss: MaybeFloat = None
    measured_delta_loss: MaybeFloat = None


class Activation(Record):
    """One activation that is rounded while the network runs.

    Attributes:
        name: the layer whose input it is, or a factor of attention's products.
        format: how, in the grammar of schemes.
        low: lower end of its static range; null where the range comes from the values at each pass.
        high: upper end.
    """

    name: str
    format: str = ""
    low: MaybeFloat = None
    high: MaybeFloat = None


class Variant(Record):
    """The model as one recipe says. ``evaluation``, ``curvature``, ``activation_statistics`` and ``batchnorm`` are
    null until their stage is finished.

    Attributes:
        scheme: the fields of the scheme, with its name; null for the float model and for a custom one.
        algorithms: those that were used, each with its options; empty: weights went to the nearest code.
        layer_choice: which layers were left in float on request.
        calibrated_by: what of the recipe looked at calibration rows; empty: nothing did.
        notes: what a reader should know of how the variant was made.
        lines: around the variant's own point: α = 0 is its evaluated loss.
        path: from the float parameters (α = 0) to the variant's (α = 1), with activations as the variant rounds them;
            null for the float model.
        unmapped: why a custom model's weights could not be laid onto the float model's. Its loss is measured; how many
            of its layers are quantized is then not known, and there is neither curvature nor a landscape.
        activations: those that are rounded while the network runs.
        activation_statistics: what each layer's output is like, rounded or not.
        batchnorm: running statistics against the data's.
    """

    name: str
    scheme: dict[str, Any] | None = None
    algorithms: list[dict[str, Any]] = []
    layer_choice: dict[str, list[str]] = {}
    calibrated_by: list[str] = []
    notes: list[str] = []
    unmapped: str | None = None
    effective_bits: MaybeFloat = None
    size_bytes: int | None = None
    quantized_layers: int | None = None
    skipped_layers: list[SkippedLayer] = []
    evaluation: Evaluation | None = None
    curvature: Curvature | None = None
    lines: list[Line] = []
    path: Line | None = None
    planes: list[Plane] = []
    layers: list[Layer] = []
    activations: list[Activation] = []
    activation_statistics: Activations | None = None
    batchnorm: BatchNormDrift | None = None


class Verdict(Record):
    """The level, and the evidence for it in sentences. ``basin``: its width beside the float model's, null where it is
    not known. ``doubt``: why the float model is no measure: it is not above chance; the level is then no better than
    caution."""

    level: VerdictLevel
    doubt: str | None = None
    reasons: list[str] = []
    signals: list[str] = []
    basin: BasinRatio | None = None


class Comparison(Record):
    """A variant against a baseline. ``sharpness_ratio`` is λmax/λmax(baseline), null where λmax(baseline) is within
    its own uncertainty of zero. ``verdict`` is null until it is given."""

    variant: str
    baseline: str = FLOAT_VARIANT
    sharpness_ratio: MaybeFloat = None
    delta_loss: MaybeFloat = None
    delta_loss_standard_error: MaybeFloat = None
    predicted_delta_loss: MaybeFloat = None
    delta_accuracy: MaybeFloat = None
    delta_accuracy_standard_error: MaybeFloat = None
    verdict: Verdict | None = None


class ModelFacts(Record):
    """The checkpoint that was measured.

    Attributes:
        trusted_code: the file was run to read it: TorchScript or a pickled module, which this server (or the command
            line) was told to trust.
    """

    sha256: str | None = None
    format: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    size_bytes: int | None = None
    trusted_code: bool = False


class DataFacts(Record):
    """The rows that were measured on, and those that ranges and algorithms looked at.

    Attributes:
        samples: rows that every variant is measured on.
        available: rows in the file.
        calibration_samples: rows that static activation ranges and algorithms looked at; 0 where nothing did.
        calibration_sha256: the file that they come from, where it is another one.
        overlap: whether some of them are among the rows that were measured on: there were too few others.
    """

    sha256: str | None = None
    samples: int | None = None
    available: int | None = None
    batch_size: int | None = None
    calibration_samples: int | None = None
    calibration_sha256: str | None = None
    overlap: bool | None = None
    classes: int | None = None


class StageFailure(Record):
    """A stage that has no result, and why."""

    stage: str
    variant: str | None = None
    code: str
    message: str


def distinct_failures(failures: Iterable[StageFailure]) -> list[StageFailure]:
    """Each once: the pieces of a stage often fail for one reason.

    Example:
        >>> failure = StageFailure(stage="plane", variant="FP32", code="bad_direction", message="nowhere")
        >>> len(distinct_failures([failure, failure.model_copy()]))
        1
    """
    return list({failure.model_dump_json(): failure for failure in failures}.values())


class RunResult(Record):
    """Everything that a run found; the same JSON from notebook, command line and server. ``notes``: what a reader
    should know of how model and data were understood."""

    schema_version: int = SCHEMA_VERSION
    engine_version: str = ""
    seed: int = 0
    task: str = "classification"
    execution: dict[str, Any] = {}
    model: ModelFacts = ModelFacts()
    data: DataFacts = DataFacts()
    variants: list[Variant] = []
    comparisons: list[Comparison] = []
    plan: dict[str, Any] | None = None
    notes: list[str] = []
    failures: list[StageFailure] = Field(default_factory=list)

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            KeyError: there is none; the message names those that are there.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise KeyError(f"no variant {name!r}; there are {', '.join(v.name for v in self.variants)}")

    def comparison(self, variant: str) -> Comparison | None:
        """The comparison of that variant with the float model, once it is there."""
        return next((item for item in self.comparisons if item.variant == variant), None)
