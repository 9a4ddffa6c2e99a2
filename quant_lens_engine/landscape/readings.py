"""What is read at one place of a landscape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.tasks import Categories
from quant_lens_engine.progress import Progress
from quant_lens_engine.schema.landscape import gap_words


class Reading(NamedTuple):
    """At one place: the loss (not finite where it is not), the accuracy, KL(float ‖ here); None has no meaning."""

    loss: float
    accuracy: float | None = None
    kl: float | None = None

    @property
    def is_finite(self) -> bool:
        """Whether there is a loss."""
        return math.isfinite(self.loss)


class Divergence(Protocol):
    """Adds up how far class scores are from the float model's, a micro-batch at a time."""

    def add(self, index: int, scores: Categories | None) -> None:
        """Micro-batch number ``index``."""

    def means(self) -> tuple[float | None, float | None]:
        """Mean KL(float ‖ here) in nats, and the share of equal answers."""


class Reader:
    """Reads places one after the other, and tells how far it is.

    Args:
        progress: told after each place.
        stage: the stage's key.
        total: how many places there will be.
        divergence: makes a fresh sum for each place; None: no KL.
    """

    def __init__(
        self, progress: Progress, stage: str, total: int, divergence: Callable[[], Divergence] | None = None
    ) -> None:
        self._progress, self._stage, self._total = progress, stage, total
        self._divergence = divergence
        self._done = 0

    def read(self, objective: Objective, note: str = "") -> Reading:
        """Loss, accuracy and KL of all rows there."""
        distance = None if self._divergence is None else self._divergence()
        terms = objective.measure(
            observe=None if distance is None else distance.add, check_cancelled=self._progress.check_cancelled
        )
        self.skip(1, note)
        kl = None if distance is None else distance.means()[0]
        return Reading(terms.loss.value, None if terms.accuracy is None else terms.accuracy.value, kl)

    def skip(self, places: int, note: str = "") -> None:
        """So many places need not be read: they are known."""
        self._done += places
        self._progress.report(self._stage, min(self._done, self._total), self._total, note)


def losses_of(readings: Sequence[Reading]) -> list[float | None]:
    """The losses; a gap where one is not finite, never a number in its place."""
    return [reading.loss if reading.is_finite else None for reading in readings]


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of all; None where one is missing.

    Example:
        >>> mean_of([1.0, 3.0]), mean_of([1.0, None])
        (2.0, None)
    """
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def gaps(readings: Sequence[Reading]) -> str | None:
    """Why losses are missing, in a sentence; None where none is."""
    return gap_words(losses_of(readings))
