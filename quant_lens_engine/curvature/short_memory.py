"""Going on with less where memory runs out: what fitted once is where the next pass begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from quant_lens_engine.errors import is_out_of_memory
from quant_lens_engine.objective import Objective

Result = TypeVar("Result")


class Room:
    """What fits the memory; shared by all passes of a measurement.

    Attributes:
        rows: the largest micro-batch; None: the objective's own.
        keeps_graphs: whether there is room for graphs between products.
        width: directions at a time; None: as many as the plan takes.
        vectors: flat vectors that are multiplied at once; None: as many as are given.
        lowered: what was given up, in words, once each.

    Example:
        >>> room, tries = Room(), []
        >>> def loss(objective):
        ...     tries.append(objective.sample.batches[0].rows)
        ...     if tries[-1] > 2:
        ...         raise MemoryError
        ...     return objective.loss()
        >>> data = [(torch.zeros(5, 1), torch.ones(5, 1))]
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> room.within(Objective(model, data, task="regression"), loss), tries, room.lowered
        (1.0, [5, 3, 2], ['micro-batches of 3 rows', 'micro-batches of 2 rows'])
    """

    def __init__(self) -> None:
        self.rows: int | None = None
        self.keeps_graphs = True
        self.width: int | None = None
        self.vectors: int | None = None
        self.lowered: list[str] = []

    def fitted(self, objective: Objective) -> Objective:
        """The same function, in micro-batches that fit."""
        if self.rows is None or _largest(objective) <= self.rows:
            return objective
        return objective.regrouped(self.rows)

    def within(self, objective: Objective, compute: Callable[[Objective], Result]) -> Result:
        """What ``compute`` makes of the objective, in smaller micro-batches where memory runs out."""
        return with_less(lambda: compute(self.fitted(objective)), lambda: self.halve(objective))

    def halve(self, objective: Objective) -> bool:
        """Half the micro-batch; whether there was anything to halve."""
        rows = _largest(objective)
        rows = rows if self.rows is None else min(rows, self.rows)
        if rows == 1:
            return False
        self.rows = (rows + 1) // 2
        self.give_up(f"micro-batches of {self.rows} rows")
        return True

    def give_up(self, words: str) -> None:
        """Note what is done without."""
        if words not in self.lowered:
            self.lowered.append(words)


def with_less(attempt: Callable[[], Result], lower: Callable[[], bool]) -> Result:
    """``attempt`` it, again after each ``lower`` where memory runs out, until that has nothing left to give up."""
    while True:
        try:
            return attempt()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not lower():
                raise
        torch.cuda.empty_cache()  # after the error, whose frames hold tensors, is gone


def _largest(objective: Objective) -> int:
    return max(batch.rows for batch in objective.sample.batches)
