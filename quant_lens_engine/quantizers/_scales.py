"""How scales are stored, and therefore rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SCALE_BITS = {"float32": 32, "float16": 16, "e8m0": 8, "e4m3": 8}
"""Bits of one stored scale."""

SCALE_WORDS = {"float32": "fp32", "float16": "fp16", "e8m0": "e8m0", "e4m3": "e4m3"}
"""What names and descriptions call it."""

_LIMITS = {"float16": (2.0**-24, 65504.0), "float32": (2.0**-126, (2 - 2.0**-23) * 2.0**127)}
"""Smallest and largest scale: none underflows to 0, overflows, or has an infinite reciprocal."""


def stored_scale(scale: Tensor, scale_dtype: str) -> Tensor:
    """``scale`` as it is read back: rounded to its dtype, never 0 and never infinite; same dtype.

    Example:
        >>> import torch
        >>> stored_scale(torch.tensor([0.1, 0.0]), "float16").tolist()
        [0.0999755859375, 5.960464477539063e-08]
    """
    if scale_dtype == "e8m0":
        return power_of_two_above(scale)
    smallest, largest = _LIMITS[scale_dtype]
    bounded = scale.clamp(smallest, largest)
    return (bounded.half() if scale_dtype == "float16" else bounded.float()).to(scale.dtype)


def power_of_two_above(scale: Tensor) -> Tensor:
    """The smallest power of two that is not below ``scale``, within e8m0's 2^-127 … 2^127: nothing clips.

    2^-126 is the smallest: float32 has no normal number below it.

    Example:
        >>> import torch
        >>> power_of_two_above(torch.tensor([0.25, 0.3, 0.0])).tolist()
        [0.25, 0.5, 1.1754943508222875e-38]
    """
    below = power_of_two_below(scale)
    return (below * (1 + (scale > below).to(scale.dtype))).clamp(2.0**-126, 2.0**127)


def power_of_two_below(value: Tensor) -> Tensor:
    """2^⌊log2 value⌋, exactly; 0 for 0.

    Example:
        >>> import torch
        >>> power_of_two_below(torch.tensor([1.0, 5.9, 0.0])).tolist()
        [1.0, 4.0, 0.0]
    """
    mantissa, _ = value.frexp()  # value = mantissa · 2^e with mantissa in [0.5, 1), so value / mantissa is exact
    power: Tensor = (value / mantissa).nan_to_num(nan=0.0) / 2
    return power
