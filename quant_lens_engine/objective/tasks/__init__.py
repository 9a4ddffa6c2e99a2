"""What a model is for: one file a task, each registers itself.

A task says which loss is meant when none is given, how outputs and targets of a batch meet, and whether outputs are
categorical, so that accuracy, agreement and KL divergence have a meaning.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from quant_lens_engine.errors import SpecError
from quant_lens_engine.registry import Registry, load_rooms

Labels = Literal["row", "position", "several", "value", "text", "none"]


@dataclass(frozen=True)
class Categories:
    """Class scores of a batch.

    Attributes:
        logits: ``(rows, positions, classes)``.
        labels: ``(rows, positions)``; None where there are none to be right about.
        counted: ``(rows, positions)``, False where a label says to ignore the position.

    Where each class is a yes or no of its own (multi-label), a position is a class, with the scores of no and yes.
    """

    logits: Tensor
    labels: Tensor | None
    counted: Tensor


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: as in ``RunSpec.task``.
        criterion: makes the default loss.
        align: ``(output, target) -> (output, target)`` in the shapes that the criterion wants.
        categorical: whether outputs are scores of classes (on axis 1 after ``align``).
        labels: what the data's y holds: ``row``: a class number a row; ``position``: one a pixel or token; ``several``:
            0 or 1 for each class; ``value``: numbers of the outputs' shape; ``text``: made from the text itself;
            ``none``: nothing is needed.
        answers: what is counted as right or wrong: ``rows``, ``labels``, ``pixels`` or ``tokens``.
        overlap: which mean over classes stands beside the accuracy: ``mean_iou``, ``f1``, or none.
        target: makes the target from the model's output at its initial point; None: the data has it.
    """

    name: str
    criterion: Callable[[], nn.Module]
    align: Callable[[Tensor, Any], tuple[Tensor, Any]] = lambda output, target: (output, target)
    categorical: bool = True
    labels: Labels = "row"
    answers: str = "rows"
    overlap: Literal["mean_iou", "f1"] | None = None
    target: Callable[[Tensor], Tensor] | None = None


TASKS: Registry[Task] = Registry("task", SpecError)

load_rooms(sys.modules[__name__])
