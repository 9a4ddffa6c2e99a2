"""Values of an algorithm's options: one spelling for each, so that a recipe has one name."""

from __future__ import annotations

import math
import re

OptionValue = bool | int | float | str

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WORDS: dict[str, bool] = {"true": True, "false": False}
_EXACT = 2**53
"""From here on a float may be a neighbour of the whole number that was meant, and is shorter to write."""

_BEYOND_FLOATS = 2**1023


def read_value(text: str) -> OptionValue:
    """A value as a name says it.

    Example:
        >>> [read_value(text) for text in ("True", "1e3", "128.0", "0.50", "yes", "1_000")]
        [True, 1000, 128, 0.5, 'yes', '1_000']
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NUMBER.fullmatch(text) is None:
        return text
    number = float(text)
    if not math.isfinite(number):
        return text
    return canonical_value(int(text) if text.lstrip("+-").isdecimal() else number)


def canonical_value(value: OptionValue) -> OptionValue:
    """The one value of all that are equal: whole numbers as such, unless they are so large that only a float is short.

    Example:
        >>> [canonical_value(value) for value in (64.0, -0.0, 10**20, True, "text")]
        [64, 0, 1e+20, True, 'text']
    """
    if isinstance(value, bool | str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    short = _EXACT <= abs(value) < _BEYOND_FLOATS and value == float(value)
    return float(value) if short else value


def written_value(value: OptionValue) -> str:
    """As a name says it, without the plus of an exponent, which joins the steps of a recipe.

    Example:
        >>> written_value(True), written_value(1e20), written_value(64)
        ('true', '1e20', '64')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("e+", "e") if isinstance(value, float) else str(value)
