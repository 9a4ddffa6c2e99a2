"""What a metric is: one number of a variant with its name, unit, direction and meaning, and how it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.schema import RunResult, Variant, numbers

Direction = Literal["lower", "higher"]


@dataclass(frozen=True)
class Measurement:
    """A number in its metric's stored unit, its error, and a word about it (``not converged``)."""

    value: float | None
    error: float | None = None
    note: str = ""


Reader = Callable[[RunResult, Variant], Measurement]


@dataclass(frozen=True)
class Metric:
    """One number of a variant.

    Attributes:
        key: for programs; never changes.
        label: head of a column.
        unit: of the stored number.
        direction: which way is better; None where neither is.
        meaning: in one sentence.
        error_meaning: what stands behind the ±.
        read: the number of a variant in a result.
        shown_unit: of the number on a page, where it differs.
        scale: from the stored to the shown number.
        signed: a difference, written with its sign.
        relative: a difference of it is said in per cent.
        form: how it is written; ``size`` chooses kB, MB or GB by itself, ``ratio`` puts × behind.
    """

    key: str
    label: str
    unit: str
    direction: Direction | None
    meaning: str
    read: Reader
    error_meaning: str = ""
    shown_unit: str = ""
    scale: float = 1.0
    signed: bool = False
    relative: bool = False
    form: Literal["number", "size", "ratio"] = "number"

    def of(self, *tasks: str) -> Metric:
        """The same metric of results of these tasks: a loss that is no likelihood is not in nats."""
        return replace(self, unit="") if self.unit == "nats" != loss_unit(*tasks) else self

    @property
    def head(self) -> str:
        """Label and unit for the head of a column."""
        unit = self.shown_unit or self.unit
        if self.form != "number" or unit in self.label.lower():
            return self.label
        return f"{self.label} ({unit})" if unit else self.label

    def written(self, measurement: Measurement) -> tuple[str, str]:
        """Value and error, scaled and written."""
        if self.form == "size":
            return numbers.size(measurement.value), ""
        if self.form == "ratio" and measurement.value is not None:
            return f"{numbers.number(measurement.value)} ×", ""
        return numbers.measured(self._scaled(measurement.value), self._scaled(measurement.error), signed=self.signed)

    def exactly(self, measurement: Measurement) -> str:
        """Every digit, with error and unit; for hovering."""
        unit = f" {self.unit}" if self.unit else ""
        error = "" if measurement.error is None else f" ± {numbers.exact(measurement.error)}"
        said = f" ({self.error_meaning})" if error and self.error_meaning else ""
        note = f"; {measurement.note}" if measurement.note else ""
        return f"{numbers.exact(measurement.value)}{error}{unit}{said}{note}"

    def _scaled(self, value: float | None) -> float | None:
        return None if value is None else value * self.scale
