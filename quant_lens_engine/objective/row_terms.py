"""What the sample gave at one point, row by row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from quant_lens_engine.objective.statistics import Estimate, mean_with_error
from quant_lens_engine.objective.tasks import Categories


@dataclass(frozen=True)
class RowTerms:
    """What the sample gave at one point.

    Attributes:
        losses: numerators, float64 on the CPU; ``(rows,)`` where ``rowwise``, else ``(batches,)``.
        weights: denominators of the same shape.
        correct: right answers a row; None where there are no classes.
        counted: answers a row; None likewise.
        rowwise: whether sampling errors can be had.
    """

    losses: Tensor
    weights: Tensor
    correct: Tensor | None
    counted: Tensor | None
    rowwise: bool

    @property
    def loss(self) -> Estimate:
        """The loss of the whole sample; its error is NaN where the criterion is no sum over rows."""
        estimate = mean_with_error(self.losses, self.weights)
        return estimate if self.rowwise else Estimate(estimate.value, float("nan"))

    @property
    def accuracy(self) -> Estimate | None:
        """The fraction of right answers."""
        if self.correct is None or self.counted is None:
            return None
        return mean_with_error(self.correct, self.counted)


def right_answers(scores: Categories | None) -> tuple[Tensor | None, Tensor | None]:
    """Right answers and counted answers a row, ``(rows,)``; None where there are no labels to be right about."""
    if scores is None or scores.labels is None:
        return None, None
    right = (scores.logits.argmax(-1) == scores.labels) & scores.counted
    return right.double().sum(1), scores.counted.double().sum(1)
