"""How scales are stored, and therefore rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SCALE_BITS = {"float32": 32, "float16": 16, "e8m0": 8, "e4m3": 8}
"""Bits of one stored scale."""

SCALE_WORDS = {"float32": "fp32", "float16": "fp16", "e8m0": "e8m0", "e4m3": "e4m3"}
"""What names and descriptions call it."""

_ROUNDED_WORDS = {"e8m0": ", rounded up to a power of two"}
"""What a formula leaves out: a dtype that rounds by far more than its last digit."""

_EXPONENT_OF_FLOAT32 = 0x7F80_0000
_EXPONENT_OF_FLOAT64 = 0x7FF0_0000_0000_0000

_LIMITS = {"float16": (2.0**-24, 65504.0), "float32": (2.0**-126, (2 - 2.0**-23) * 2.0**127)}
"""Smallest and largest scale: none underflows to 0, overflows, or has an infinite reciprocal."""


def scale_in_words(formula: str, scale_dtype: str) -> str:
    """What :func:`stored_scale` makes of a formula.

    Example:
        >>> scale_in_words("amax / 7", "e8m0")
        'e8m0 scale = amax / 7, rounded up to a power of two'
    """
    return f"{SCALE_WORDS[scale_dtype]} scale = {formula}{_ROUNDED_WORDS.get(scale_dtype, '')}"


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
    bounded = scale.clamp(2.0**-126, 2.0**127)
    below = power_of_two_below(bounded)
    return (below * (1 + (bounded > below).to(bounded.dtype))).clamp(max=2.0**127)


def power_of_two_below(value: Tensor) -> Tensor:
    """2^⌊log2 |value|⌋, exactly, in float32 or float64; 0 for 0 and below the smallest normal number.

    It is the number's exponent without its sign and mantissa.

    Example:
        >>> import torch
        >>> power_of_two_below(torch.tensor([1.0, 5.9, 0.0])).tolist()
        [1.0, 4.0, 0.0]
    """
    empty = value.new_empty(0)
    if value.element_size() == 4:
        return (value.view(empty.int().dtype) & _EXPONENT_OF_FLOAT32).view(empty.dtype)
    return (value.view(empty.long().dtype) & _EXPONENT_OF_FLOAT64).view(empty.dtype)
