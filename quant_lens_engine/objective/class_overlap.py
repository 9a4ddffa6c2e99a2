"""How labels and answers of each class overlap: intersection over union, and F1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quant_lens_engine.objective.tasks import Categories


class ClassOverlap:
    """Counts of labels, answers and their agreement for each class, added up over micro-batches.

    A class that neither a label nor an answer names is left out of every mean, as it has no value (scikit-learn's
    ``f1_score`` and ``jaccard_score`` with ``average="macro"`` do the same with the classes that occur).

    Args:
        labels: of the task. ``position``: one class is named at each position. ``several``: each class is a yes or no,
            and its yes is what is counted. Of other tasks nothing is.

    Example:
        >>> logits = torch.eye(3)[torch.tensor([[0, 0, 1, 1]])]
        >>> found = ClassOverlap("position")
        >>> found.add(Categories(logits, torch.tensor([[0, 1, 1, 1]]), torch.ones(1, 4) > 0))
        >>> round(found.mean_iou(), 4), round(found.macro_f1(), 4)  # of 1/2, 2/3 and 2/3, 4/5: two classes occur
        (0.5833, 0.7333)
    """

    def __init__(self, labels: str) -> None:
        self._labels = labels
        self._counts: Tensor | None = None

    def add(self, scores: Categories | None) -> None:
        """One micro-batch."""
        if self._labels not in ("position", "several") or scores is None or scores.labels is None:
            return
        answers = scores.logits.argmax(-1)
        if self._labels == "several":  # a position is a class, with the scores of no and yes
            said, true = answers.bool(), scores.labels.bool()
            counts = torch.stack([(said & true).sum(0), said.sum(0), true.sum(0)])
        else:
            answers, labels = answers[scores.counted], scores.labels[scores.counted]
            found = (answers[answers == labels], answers, labels)
            classes = scores.logits.shape[-1]
            counts = torch.stack([torch.bincount(values, minlength=classes) for values in found])
        counts = counts.double().cpu()
        self._counts = counts if self._counts is None else self._counts + counts

    def mean_iou(self) -> float | None:
        """Mean over classes of |label ∩ answer| / |label ∪ answer|, 0 to 1; None where no class occurs."""
        return self._mean(lambda both, said, true: both / (said + true - both))

    def macro_f1(self) -> float | None:
        """Mean over classes of 2 |label ∩ answer| / (|label| + |answer|), 0 to 1; None where no class occurs."""
        return self._mean(lambda both, said, true: 2 * both / (said + true))

    def _mean(self, of_a_class: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float | None:
        if self._counts is None:
            return None
        both, said, true = self._counts
        occurs = said + true > 0
        values = of_a_class(both[occurs], said[occurs], true[occurs])
        return float(values.mean()) if len(values) else None
