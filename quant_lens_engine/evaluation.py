"""A variant on all rows of the sample: loss, accuracy, and how far its answers are from the float model's."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quant_lens_engine.objective import Objective, RowTerms, mean_with_error
from quant_lens_engine.objective.class_overlap import ClassOverlap
from quant_lens_engine.objective.tasks import Categories
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.schema.run_result import Evaluation

KEPT_SCORES = 2**27
"""The float model's scores are kept up to this many numbers (512 MB); beyond it they are computed again when needed."""


@dataclass(frozen=True)
class FloatOutputs:
    """The float model's answers, kept once, so that every variant is compared with them row by row.

    Attributes:
        objective: at the float point.
        rows: losses and right answers.
        logits: class scores ``(rows, positions, classes)`` a micro-batch, on the CPU; None where outputs are not
            categorical, or too large to keep.
    """

    objective: Objective
    rows: RowTerms
    logits: tuple[Tensor, ...] | None


def float_outputs(objective: Objective, *, progress: Progress = SILENT) -> FloatOutputs:
    """The float model's answers on the whole sample; ``objective`` stands at the float parameters."""
    kept: list[Tensor] = []
    size = 0

    def keep(_: int, scores: Categories | None) -> None:
        nonlocal size
        if scores is not None:
            size += scores.logits.numel()
            kept.append(scores.logits.cpu()) if size <= KEPT_SCORES else kept.clear()

    rows = objective.measure(rowwise=True, observe=keep, check_cancelled=progress.check_cancelled)
    complete = 0 < size <= KEPT_SCORES
    return FloatOutputs(objective, rows, tuple(kept) if complete else None)


def evaluate(
    objective: Objective,
    *,
    reference: FloatOutputs | None = None,
    own_model: nn.Module | None = None,
    progress: Progress = SILENT,
    stage: str = "",
) -> Evaluation:
    """Loss, accuracy and distance from the float model, over all rows.

    Differences are paired over rows: a variant answers the same rows as the float model, so the error of ΔL and
    Δaccuracy is that of the row-wise differences, usually far below the error of either mean.

    Args:
        objective: at the variant's parameters (``float_objective.at(variant.point)``).
        reference: the float model's answers on the same sample; None for the float model itself.
        own_model: a custom quantized model that is run by its own kernels; its mode is restored.
        progress: told after each micro-batch.
        stage: the stage's key.

    Example:
        >>> float_model = Objective(nn.Linear(2, 2), [(torch.eye(2), torch.tensor([0, 1]))])
        >>> reference = float_outputs(float_model)
        >>> evaluate(float_model, reference=reference).delta_loss
        0.0
    """
    started = time.perf_counter()
    distance = FloatDistance(reference)
    frequent = FrequentAnswer(objective.task.labels) if reference is None else None
    overlap = ClassOverlap(objective.task.labels) if objective.task.overlap else None
    total = len(objective.sample.batches)

    def observe(index: int, scores: Categories | None) -> None:
        distance.add(index, scores)
        if overlap is not None:
            overlap.add(scores)
        if frequent is not None:
            frequent.add(scores)
        progress.report(stage, index + 1, total)

    rows = objective.measure(
        rowwise=True, own_model=own_model, observe=observe, check_cancelled=progress.check_cancelled
    )
    evaluation = Evaluation(samples=_answers(rows, objective))
    evaluation.answers = "rows" if rows.counted is None else objective.task.answers
    if overlap is not None:
        evaluation.mean_iou = overlap.mean_iou() if objective.task.overlap == "mean_iou" else None
        evaluation.f1 = overlap.macro_f1() if objective.task.overlap == "f1" else None
    if frequent is not None:
        evaluation.chance = frequent.share()
        evaluation.majority = evaluation.chance if objective.task.labels in ("position", "several") else None
    evaluation.loss, evaluation.loss_standard_error = rows.loss
    if rows.accuracy is not None:
        evaluation.accuracy, evaluation.accuracy_standard_error = rows.accuracy
    if reference is not None:
        _compare(evaluation, rows, reference.rows)
        evaluation.kl_to_float, evaluation.top1_agreement = distance.means()
    evaluation.forward = "own" if own_model is not None else "float" if reference is None else "fake-quant"
    evaluation.elapsed_s = time.perf_counter() - started
    return Evaluation.model_validate(evaluation.model_dump())


class FrequentAnswer:
    """How often the most frequent label is right; added up over micro-batches.

    Args:
        labels: of the task. ``several``: yes or no is named for each class; otherwise one label everywhere.

    Example:
        >>> scores = Categories(torch.zeros(2, 3, 2), torch.tensor([[1, 0, 0], [1, 1, 0]]), torch.ones(2, 3) > 0)
        >>> found = FrequentAnswer("several")
        >>> found.add(scores)
        >>> round(found.share(), 4)  # 2 + 1 + 2 of 6
        0.8333
    """

    def __init__(self, labels: str) -> None:
        self._labels = labels
        self._counts: Tensor | None = None

    def add(self, scores: Categories | None) -> None:
        """One micro-batch."""
        if scores is None or scores.labels is None:
            return
        classes = scores.logits.shape[-1]
        if self._labels == "several":
            yes = scores.labels.sum(0)
            counts = torch.stack([len(scores.labels) - yes, yes], -1)
        else:
            counts = torch.bincount(scores.labels[scores.counted], minlength=classes)[None]
        counts = counts.double().cpu()
        self._counts = counts if self._counts is None else self._counts + counts

    def share(self) -> float | None:
        """The accuracy of that answer; None where there is none."""
        if self._counts is None or not float(self._counts.sum()):
            return None
        return float(self._counts.max(-1).values.sum() / self._counts.sum())


class FloatDistance:
    """KL(float ‖ variant) and agreement, added up over micro-batches.

    Args:
        reference: the float model's answers on the same rows; None: there is nothing to compare with.
    """

    def __init__(self, reference: FloatOutputs | None) -> None:
        self._reference = reference
        self._batches = [] if reference is None or reference.logits is not None else list(reference.objective.batches())
        self._kl = self._agreed = self._positions = 0.0

    def add(self, index: int, scores: Categories | None) -> None:
        """Micro-batch number ``index``."""
        if self._reference is None or scores is None:
            return
        reference = self._logits(index).to(scores.logits.device)
        if reference.shape != scores.logits.shape:
            return
        float_log = torch.log_softmax(reference.double(), -1)
        variant_log = torch.log_softmax(scores.logits.double(), -1)
        divergence = (float_log.exp() * (float_log - variant_log)).sum(-1)
        agreed = reference.argmax(-1) == scores.logits.argmax(-1)
        self._kl += float(divergence[scores.counted].sum())
        self._agreed += float((agreed & scores.counted).sum())
        self._positions += float(scores.counted.sum())

    def means(self) -> tuple[float | None, float | None]:
        """Mean KL in nats, and the share of equal answers; None where outputs name no class."""
        if not self._positions:
            return None, None
        return max(self._kl / self._positions, 0.0), self._agreed / self._positions

    def _logits(self, index: int) -> Tensor:
        assert self._reference is not None
        if self._reference.logits is not None:
            return self._reference.logits[index]
        scores = self._reference.objective.scores(self._batches[index])
        assert scores is not None
        return scores.logits


def _compare(evaluation: Evaluation, rows: RowTerms, reference: RowTerms) -> None:
    if rows.losses.shape == reference.losses.shape:
        difference = mean_with_error(rows.losses - reference.losses, rows.weights)
        evaluation.delta_loss = difference.value
        evaluation.delta_loss_standard_error = difference.standard_error if rows.rowwise else None
    if rows.correct is not None and reference.correct is not None and rows.counted is not None:
        change = mean_with_error(rows.correct - reference.correct, rows.counted)
        evaluation.delta_accuracy, evaluation.delta_accuracy_standard_error = change


def _answers(rows: RowTerms, objective: Objective) -> int:
    return objective.samples if rows.counted is None else int(rows.counted.sum())
