"""One activation's quantizer: watching, rounding, or replaying what was rounded before.

The estimator is the identity inside the range and zero outside, with scales and zero points constant. *Frozen*, an
activation keeps its rounding offset and its mask from one point: x ↦ mask · x + offset. That function is smooth in the
parameters, has the derivatives of the estimator at that point, and is what the smooth landscape walks on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from quant_lens_engine.errors import NumericalError
from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.observers.min_max import nothing_observed
from quant_lens_engine.quantization.activation import Activation, non_finite_activations
from quant_lens_engine.quantization.blocks import join_blocks, span_of, split_blocks, working
from quant_lens_engine.quantizers import QUANTIZERS, QParams, Range
from quant_lens_engine.schema.number_format import ActivationFormat

Phase = Literal["float", "watch", "live", "record", "replay"]


@dataclass
class Tape:
    """What every activation of one pass was rounded to, in the order of the calls: ``(offset, mask)``."""

    entries: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    place: int = 0

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return sum(offset.nbytes + mask.nbytes for offset, mask in self.entries)


@dataclass
class PassControl:
    """What the quantizers of one network do at the moment, and the tape that they share."""

    phase: Phase = "live"
    tape: Tape = field(default_factory=Tape)

    @contextmanager
    def during(self, phase: Phase, tape: Tape | None = None) -> Iterator[None]:
        """Another phase for the time being."""
        before = self.phase, self.tape
        self.phase, self.tape = phase, before[1] if tape is None else tape
        self.tape.place = 0
        try:
            yield
        finally:
            self.phase, self.tape = before


class ActivationQuantizer:
    """Rounds one activation of a network.

    Before a convolution features lie on axis 1 and a token is a whole row of the batch; elsewhere features lie on the
    last axis. The rows of the batch lie where the place says, in values of two axes on the first.

    Args:
        place: where it is met.
        fmt: how.
        control: what to do now; shared by all quantizers of a network.
        smoothing: factors of the features ``(features,)`` that were moved into the weight (SmoothQuant); the values
            are divided by them before rounding, and multiplied after.

    Attributes:
        span: the static range, once it is settled.
        axes: of the values that were watched.
    """

    def __init__(
        self, place: Activation, fmt: ActivationFormat, control: PassControl, smoothing: Tensor | None = None
    ) -> None:
        self.place, self.fmt, self.control, self.smoothing = place, fmt, control, smoothing
        self.axis = 1 if place.spatial else -1
        self.span: Range | None = None
        self.axes = 2
        self._observer = OBSERVERS[fmt.observer]() if fmt.observer is not None else None
        self._watched = False

    def __call__(self, values: Tensor) -> Tensor:
        """The activation as the layer behind it gets it."""
        phase = self.control.phase
        if phase == "float" or not values.is_floating_point() or not values.numel():
            return values
        if phase == "watch":
            self._watch(values.detach())
            return values
        if phase == "replay":
            offset, mask = self._next(values)
            return offset + mask * values
        rounded, mask = self._rounded(values.detach())
        if phase == "record":
            self.control.tape.entries.append((rounded - mask * values.detach(), mask))
            return rounded
        return rounded + mask * (values - values.detach())

    def settle(self) -> None:
        """End watching: the range is what the observer says; there is none where nothing came by."""
        if self._observer is None or not self._watched:
            return
        span = self._observer.span(self.fmt)
        self.span = Range(span.low.float(), span.high.float())
        self._observer = OBSERVERS[self.fmt.observer or ""]()

    @property
    def qparams(self) -> QParams | None:
        """Of a static range with one scale; None elsewhere."""
        if self.span is None or self.fmt.granularity != "tensor":
            return None
        return QUANTIZERS[self.fmt.format].qparams(self.span, self.fmt, self.span)

    def _watch(self, values: Tensor) -> None:
        self.axes = values.dim()
        if self._observer is None:
            return
        if not bool(torch.isfinite(values).all()):
            raise non_finite_activations(f"input of {self.place.name} is")
        self._watched = True
        self._observer.update(self._rows_first(self.smoothed(values)))

    def _next(self, values: Tensor) -> tuple[Tensor, Tensor]:
        tape = self.control.tape
        if tape.place >= len(tape.entries) or tape.entries[tape.place][0].shape != values.shape:
            raise NumericalError(
                f"the input of {self.place.name} comes in another order or shape than before",
                hint="a model whose path depends on its values has no smooth landscape with rounded activations",
                code="changing_path",
            )
        tape.place += 1
        return tape.entries[tape.place - 1]

    def _rounded(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Q(values), and where they were rounded rather than clipped."""
        smoothed = self._rows_first(working(self.smoothed(values)))
        blocks, spans, whole = self._blocks(smoothed)
        parts = [self._round_block(block, span, whole) for block, span in zip(blocks, spans, strict=True)]
        if self.fmt.granularity == "group":
            moved = smoothed.movedim(self.axis, -1)
            rounded, mask = (
                join_blocks(list(part), moved.numel() // moved.shape[-1]).reshape(moved.shape).movedim(-1, self.axis)
                for part in zip(*parts, strict=True)
            )
        else:
            rounded, mask = (part.reshape(smoothed.shape) for part in parts[0])
        rounded, mask = (part.movedim(0, self._batch_axis(part)) for part in (rounded, mask))
        return self._unsmoothed(rounded).to(values.dtype), mask.to(values.dtype)

    def _round_block(self, block: Tensor, span: Range, whole: Range | None) -> tuple[Tensor, Tensor]:
        quantizer = QUANTIZERS[self.fmt.format]
        qparams = quantizer.qparams(span, self.fmt, whole)
        rounded = quantizer.decode(quantizer.encode(block, qparams, self.fmt), qparams, self.fmt)
        edges = quantizer.edges(qparams, self.fmt)
        return rounded, (block >= edges.low) & (block <= edges.high)

    def _blocks(self, values: Tensor) -> tuple[list[Tensor], list[Range], Range | None]:
        """The values in parts whose last axis shares a scale, the range of each, and that of the whole."""
        by_row = values.reshape(len(values), -1) if values.dim() else values.reshape(1, 1)
        if self.fmt.granularity == "group":
            features = values.movedim(self.axis, -1)
            parts = split_blocks(features.reshape(-1, features.shape[-1]), self.fmt)
            return parts, [span_of(part, self.fmt) for part in parts], self._whole(values, by_row)
        if not self.fmt.dynamic:
            span = self._static(values)
            return [by_row], [span], span
        if self.fmt.granularity == "token" and not self.place.spatial:
            return [values], [span_of(values, self.fmt)], None
        return [by_row], [span_of(by_row, self.fmt)], None

    def _whole(self, values: Tensor, by_row: Tensor) -> Range | None:
        """The range under a second level of scales (NVFP4): calibrated, or of each row of the batch."""
        if not QUANTIZERS[self.fmt.format].stored_bits(self.fmt).tensor:
            return None
        if not self.fmt.dynamic:
            return self._static(values)
        tokens = values.numel() // max(1, values.shape[self.axis]) // max(1, len(values))
        span = span_of(by_row, self.fmt)
        return Range(*(end.repeat_interleave(tokens, 0)[:, None] for end in (span.low, span.high)))

    def _static(self, values: Tensor) -> Range:
        if self.span is None:
            raise nothing_observed()
        if self.span.low.device != values.device or self.span.low.dtype != values.dtype:
            self.span = Range(self.span.low.to(values), self.span.high.to(values))
        return self.span

    def _rows_first(self, values: Tensor) -> Tensor:
        return values.movedim(self._batch_axis(values), 0)

    def _batch_axis(self, values: Tensor) -> int:
        return self.place.batch_axis if values.dim() > 2 else 0

    def smoothed(self, values: Tensor) -> Tensor:
        """What is rounded: the values, or where smoothing has moved features into the weight, what is left of them."""
        return values if self.smoothing is None else values / self._factors(values)

    def _unsmoothed(self, values: Tensor) -> Tensor:
        return values if self.smoothing is None else values * self._factors(values)

    def _factors(self, values: Tensor) -> Tensor:
        assert self.smoothing is not None
        shape = [1] * values.dim()
        shape[self.axis] = -1
        return self.smoothing.to(values).reshape(shape)
