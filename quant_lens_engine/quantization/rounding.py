"""w → Q(w) for one weight tensor: to nearest, or as an algorithm has decided.

Every map here is in the float model's own coordinates. A rescaling that leaves the function as it is (folded batch
normalisation, equalised channels, smoothed activations) becomes scales of the matrix' rows and columns that are applied
before rounding and taken back after it, so Q(w) is a point among the float model's parameters, whatever was folded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from quant_lens_engine.filters import FilterLayout
from quant_lens_engine.quantization.blocks import round_trip, working
from quant_lens_engine.quantization.grid import Grid, observe_grid
from quant_lens_engine.schema.number_format import NumberFormat

Observe = Callable[[Tensor, NumberFormat], Grid]
"""``(matrix, format) -> grid``: how qparams are chosen."""


class WeightRounding(Protocol):
    """w → Q(w) for one weight tensor; same shape, dtype and device."""

    def __call__(self, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """Q(``weight``), in a new tensor or in ``out``; no gradient is meant here."""


@dataclass(frozen=True)
class Scaling:
    """An equivalent transformation of a weight matrix: W ↦ diag(rows) · W · diag(columns).

    Attributes:
        rows: ``(channels,)``, nowhere zero; None for ones.
        columns: ``(parts, elements)``, nowhere zero: the first channels have the first part, and so on (the groups of a
            convolution have inputs of their own); None for ones.
    """

    rows: Tensor | None = None
    columns: Tensor | None = None

    def apply(self, matrix: Tensor) -> Tensor:
        """The transformed matrix."""
        scaled = matrix if self.rows is None else matrix * self.rows.to(matrix)[:, None]
        if self.columns is None:
            return scaled
        return (per_part(scaled, len(self.columns)) * self.columns.to(matrix)[:, None]).flatten(0, 1)

    def undo(self, matrix: Tensor) -> Tensor:
        """The inverse of :meth:`apply`."""
        scaled = matrix if self.rows is None else matrix / self.rows.to(matrix)[:, None]
        if self.columns is None:
            return scaled
        return (per_part(scaled, len(self.columns)) / self.columns.to(matrix)[:, None]).flatten(0, 1)

    def seen_by(self, gram: Tensor) -> Tensor:
        """Second moments of the inputs ``(parts, elements, elements)`` as the transformed matrix sees them."""
        if self.columns is None:
            return gram
        factors = self.columns.to(gram).reciprocal()
        return gram * factors[:, :, None] * factors[:, None, :]

    def after(self, *, rows: Tensor | None = None, columns: Tensor | None = None) -> Scaling:
        """This one, then another."""
        return Scaling(_product(self.rows, rows), _product(self.columns, columns))

    @property
    def is_nothing(self) -> bool:
        """Whether it changes nothing."""
        return self.rows is None and self.columns is None


UNSCALED = Scaling()


@dataclass(frozen=True)
class ToNearest:
    """Round to nearest (RTN), with qparams observed on the weight itself.

    Attributes:
        fmt: codes, and what shares a scale.
        layout: the weight's channels.
        scaling: applied before rounding, and taken back.
        observe: how qparams are chosen, where that is not by the smallest and the largest weight.
    """

    fmt: NumberFormat
    layout: FilterLayout
    scaling: Scaling = UNSCALED
    observe: Observe = observe_grid

    def __call__(self, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """Q(``weight``)."""
        if self.scaling.is_nothing and self.observe is observe_grid:
            return round_trip(weight, self.fmt, self.layout, out=out)
        matrix = self.scaling.apply(working(self.layout.rows(weight.detach())))
        if self.observe is observe_grid:
            rounded = round_trip(matrix, self.fmt)
        else:
            rounded = self.observe(matrix, self.fmt).nearest(matrix)
        return _written(self.scaling.undo(rounded), self.layout, weight, out)


@dataclass(frozen=True)
class Decided:
    """What an algorithm decided, at qparams that stay fixed.

    The algorithm's departure from rounding to nearest is kept: for another weight (the deployed landscape) it is added
    to that weight's own nearest value, and what comes out goes to the grid, whose ends it may lie beyond.

    Attributes:
        grid: the values that each weight can take.
        correction: chosen value − nearest value, at the weight that the algorithm was given; ``(channels, elements)``.
        layout: the weight's channels.
        scaling: applied before rounding, and taken back.
    """

    grid: Grid
    correction: Tensor
    layout: FilterLayout
    scaling: Scaling = UNSCALED

    @classmethod
    def of(cls, chosen: Tensor, weight: Tensor, grid: Grid, layout: FilterLayout, scaling: Scaling) -> Decided:
        """From the chosen values ``(channels, elements)`` and the weight they were chosen for."""
        matrix = scaling.apply(working(layout.rows(weight.detach())))
        return cls(grid, chosen - grid.nearest(matrix), layout, scaling)

    def __call__(self, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """Nearest value and correction."""
        matrix = self.scaling.apply(working(self.layout.rows(weight.detach())))
        chosen = self.grid.nearest(self.grid.nearest(matrix) + self.correction)
        return _written(self.scaling.undo(chosen), self.layout, weight, out)


@dataclass(frozen=True)
class Moved:
    """Rounding of a weight that training has moved: Q(w + shift)."""

    inner: WeightRounding
    shift: Tensor

    def __call__(self, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """Q(``weight`` + shift)."""
        return self.inner((weight.detach() + self.shift).to(weight.dtype), out)


@dataclass(frozen=True)
class PointRounding:
    """w → Q(w) for the parameters of a model.

    Attributes:
        roundings: of the weights that are rounded; all others pass through.
        shifts: what an algorithm has added to other parameters (corrected biases).
    """

    roundings: Mapping[str, WeightRounding]
    shifts: Mapping[str, Tensor] = field(default_factory=dict)

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Any subset of the parameters, rounded; same keys, shapes, dtypes and devices."""
        return {name: self._value(name, tensor) for name, tensor in weights.items()}

    def _value(self, name: str, tensor: Tensor) -> Tensor:
        if name in self.roundings:
            return self.roundings[name](tensor)
        return (tensor + self.shifts[name]).to(tensor.dtype) if name in self.shifts else tensor


def per_part(matrix: Tensor, parts: int) -> Tensor:
    """``(parts, channels / parts, elements)``: the channels that see one part of a layer's inputs."""
    return matrix.reshape(parts, -1, matrix.shape[-1])


def _written(matrix: Tensor, layout: FilterLayout, weight: Tensor, out: Tensor | None) -> Tensor:
    limit = torch.finfo(weight.dtype).max
    answer = torch.empty_like(weight) if out is None else out
    return answer.copy_(layout.restore(matrix.clamp(-limit, limit), weight.shape))


def _product(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return one if other is None else other
    return one * other
