"""BatchNorm: its running statistics against those that a network really has, and what putting them right does."""

from __future__ import annotations

from quant_lens_engine.schema.base import MaybeFloat, Record


class NormalizationDrift(Record):
    """One batch normalisation. σ is what the layer divides by, √(variance + ε); *running* is what it stores, *data*
    what its input has over all rows of the sample and all positions, biased (divided by n).

    Attributes:
        name: of the module.
        kind: its class.
        channels: how many.
        mean_shift_rms: √(mean over channels of s²), with s = (μ_data − μ_running) / σ_running: in standard deviations.
        mean_shift_worst: the largest |s|.
        worst_channel: which channel has it, from 0.
        variance_ratio: geometric mean over channels of σ²_data / σ²_running, without unit; 1: they agree.
        variance_ratio_min: of the channel with the smallest.
        variance_ratio_max: of the channel with the largest.
        reason: why it was not measured.
    """

    name: str
    kind: str = ""
    channels: int = 0
    mean_shift_rms: MaybeFloat = None
    mean_shift_worst: MaybeFloat = None
    worst_channel: int | None = None
    variance_ratio: MaybeFloat = None
    variance_ratio_min: MaybeFloat = None
    variance_ratio_max: MaybeFloat = None
    reason: str | None = None


class Reestimation(Record):
    """What the loss does when the running statistics are replaced by the data's.

    Layer by layer, in the order in which they run: each takes the exact statistics of its input while the layers before
    it have theirs already, as one pass in training mode with all rows as one batch would (compare Wu and Johnson 2021,
    arXiv:2105.07576). Weights stay; loss and accuracy are of the whole sample.

    Attributes:
        layers: how many normalisations took new statistics.
        rows: how many rows these come from.
        overlap: whether these are, in part or all, rows that the loss is measured on: it then comes out better than it
            would on new ones.
        loss_before: with the running statistics, in the loss's unit.
        loss_after: with the data's.
        delta_loss: after minus before; negative: better.
        delta_loss_standard_error: paired over rows.
        accuracy_before: 0 to 1; null where there are no classes.
        accuracy_after: likewise.
        delta_accuracy: after minus before.
        delta_accuracy_standard_error: paired over rows.
        reason: why it was not done.
    """

    layers: int = 0
    rows: int = 0
    overlap: bool = False
    loss_before: MaybeFloat = None
    loss_after: MaybeFloat = None
    delta_loss: MaybeFloat = None
    delta_loss_standard_error: MaybeFloat = None
    accuracy_before: MaybeFloat = None
    accuracy_after: MaybeFloat = None
    delta_accuracy: MaybeFloat = None
    delta_accuracy_standard_error: MaybeFloat = None
    reason: str | None = None


class BatchNormDrift(Record):
    """The batch normalisations of one variant.

    Attributes:
        layers: those that were met, as they run, then those that were not, with the reason.
        samples: rows that the data's statistics are of.
        reestimation: null where it was not asked for.
        notes: what a reader should know.
        reason: why there are none, such as a model without batch normalisation.
    """

    layers: list[NormalizationDrift] = []
    samples: int = 0
    reestimation: Reestimation | None = None
    notes: list[str] = []
    reason: str | None = None
    elapsed_s: float = 0.0
