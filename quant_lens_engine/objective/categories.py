"""Class scores of a batch, where outputs are categorical: what accuracy, agreement and KL divergence read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quant_lens_engine.objective.criteria import ClassCriterion, Criterion, ElementwiseCriterion
from quant_lens_engine.objective.tasks import Categories, Task


def categories(task: Task, criterion: Criterion, output: Tensor, target: Any) -> Categories | None:
    """The class scores of aligned outputs (classes on axis 1); None where outputs name no class.

    A single logit under ``BCEWithLogitsLoss`` counts as two classes; probabilities as targets are right at their
    largest.
    """
    if not task.categorical or output.ndim == 0:
        return None
    if task.labels != "several" and _is_single_logit(criterion, output, target):
        scores = output.reshape(output.shape[0], 1)
        return _scores(torch.cat([torch.zeros_like(scores), scores], 1), (target > 0.5).long().reshape(-1), None)
    if task.labels == "several":
        return _yes_or_no(criterion, output, target)
    if output.ndim < 2 or output.shape[1] < 2:
        return None
    if task.target is not None or target is None:
        return _scores(output, None, None)
    if not isinstance(target, Tensor):
        return None
    if target.is_floating_point():
        soft = isinstance(criterion, ClassCriterion) and target.shape == output.shape
        return _scores(output, target.argmax(1), None) if soft else None
    if target.shape != output.shape[:1] + output.shape[2:]:
        return None
    return _scores(output, target, criterion.ignore_index)


def _yes_or_no(criterion: Criterion, output: Tensor, target: Any) -> Categories | None:
    """Each class as a position of its own; None where outputs are no logits of that."""
    if not _is_binary(criterion) or not isinstance(target, Tensor) or target.shape != output.shape:
        return None
    scores = output.reshape(output.shape[0], -1)
    return Categories(
        torch.stack([torch.zeros_like(scores), scores], -1),
        (target > 0.5).long().reshape(scores.shape),
        torch.ones_like(scores, dtype=torch.bool),
    )


def _is_binary(criterion: Criterion) -> bool:
    return isinstance(criterion, ElementwiseCriterion) and isinstance(criterion.module, nn.BCEWithLogitsLoss)


def _is_single_logit(criterion: Criterion, output: Tensor, target: Any) -> bool:
    return _is_binary(criterion) and output.numel() == output.shape[0] and isinstance(target, Tensor)


def _scores(output: Tensor, labels: Tensor | None, ignore_index: int | None) -> Categories:
    rows, classes = output.shape[0], output.shape[1]
    logits = output.movedim(1, -1).reshape(rows, -1, classes)
    if labels is None:
        return Categories(logits, None, torch.ones(logits.shape[:2], dtype=torch.bool, device=output.device))
    labels = labels.reshape(rows, -1)
    counted = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    return Categories(logits, labels, counted)
