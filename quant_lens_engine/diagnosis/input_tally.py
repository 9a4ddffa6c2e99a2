"""What a layer is given, before it is rounded: its range, and how much of it a static range clips."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from quant_lens_engine.schema import InputRange


@dataclass
class InputTally:
    """What a rounded input is like before it is rounded."""

    span: tuple[float, float] | None
    minimum: float = math.inf
    maximum: float = -math.inf
    count: int = 0
    clipped: int = 0

    def add(self, values: Tensor) -> None:
        """The input of one more call."""
        if not values.numel():
            return
        low, high = (float(end) for end in values.aminmax())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.count += values.numel()
        if self.span is not None:
            self.clipped += int(((values < self.span[0]) | (values > self.span[1])).sum())

    def record(self) -> InputRange | None:
        """What a result says of it; None where the layer was given nothing."""
        if not self.count:
            return None
        low, high = self.span or (None, None)
        share = self.clipped / self.count if self.span is not None else None
        return InputRange(minimum=self.minimum, maximum=self.maximum, low=low, high=high, clipped_share=share)
