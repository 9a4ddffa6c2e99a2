"""Floating-point elements of a few bits, by arithmetic: any exponent and mantissa width, subnormals included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quant_lens_engine.quantizers._scales import power_of_two_below

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Minifloat:
    """A signed floating-point element.

    Attributes:
        name: such as ``e4m3``.
        mantissa_bits: after the point.
        bias: of the exponent; the smallest normal number is 2^(1 − bias).
        largest: the largest finite number.
    """

    name: str
    mantissa_bits: int
    bias: int
    largest: float

    @property
    def top_power(self) -> int:
        """The exponent of the largest power of two that it holds (OCP's emax)."""
        return int(self.largest).bit_length() - 1

    @property
    def edge(self) -> float:
        """Halfway from the largest number to the next one that there is not: beyond it is clipping."""
        return self.largest + 2.0 ** (self.top_power - self.mantissa_bits - 1)

    def nearest(self, values: Tensor) -> Tensor:
        """Each value rounded to the nearest element, ties to even, saturating.

        Example:
            >>> import torch
            >>> E2M1.nearest(torch.tensor([0.3, 2.5, -5.1, 100.0])).tolist()
            [0.5, 2.0, -6.0, 6.0]
        """
        step = power_of_two_below(values).clamp(min=2.0 ** (1 - self.bias)).mul_(2.0**-self.mantissa_bits)
        rounded: Tensor = (values / step).round_().mul_(step)
        return rounded.clamp(-self.largest, self.largest)


E4M3 = Minifloat("e4m3", 3, 7, 448.0)
E5M2 = Minifloat("e5m2", 2, 15, 57344.0)
E3M2 = Minifloat("e3m2", 2, 3, 28.0)
E2M3 = Minifloat("e2m3", 3, 1, 7.5)
E2M1 = Minifloat("e2m1", 1, 1, 6.0)
