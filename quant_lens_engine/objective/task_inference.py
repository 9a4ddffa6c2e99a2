"""Which task is meant where none is named: read from the targets and the criterion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import DataError
from quant_lens_engine.objective.sample import Sample


def infer_task(sample: Sample, criterion: nn.Module | Callable[..., Tensor] | None) -> str:
    """``classification`` where targets are whole numbers or the loss is one of classes, ``regression`` elsewhere.

    A loss of several yes-or-no answers a row means ``multi-label``.

    Raises:
        DataError: ``no_targets``: there are none, and no criterion that could do without.

    Example:
        >>> infer_task(Sample.read([(torch.randn(2, 3), torch.tensor([0, 1]))]), None)
        'classification'
    """
    target = sample.batches[0].target
    if is_label(target):
        return "classification"
    if criterion is None and target is None:
        raise DataError(
            "the batches have no targets",
            hint="give batches (x, y), a criterion=, or task='self-distillation', which compares with the float model",
            code="no_targets",
        )
    if isinstance(criterion, nn.BCEWithLogitsLoss) and isinstance(target, Tensor) and target[0].numel() > 1:
        return "multi-label"
    # Probabilities and yes/no targets are floating point too: their loss says that they are classes.
    classes = isinstance(criterion, nn.CrossEntropyLoss | nn.BCEWithLogitsLoss)
    return "classification" if classes else "regression"


def count_classes(sample: Sample) -> int | None:
    """How many different labels the sample has; None where targets are no labels."""
    labels = [batch.target.flatten() for batch in sample.batches if is_label(batch.target)]
    return len(set(torch.cat(labels).tolist())) if labels else None


def is_label(target: object) -> bool:
    """Whether a batch's target is a tensor of whole numbers."""
    return isinstance(target, Tensor) and not target.is_floating_point() and not target.is_complex()
