"""Numbers as people write them in fields: one, several, or a fraction."""

from __future__ import annotations

import math


def read_number(text: str) -> float | None:
    """A number; None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def scale_text(scale: float) -> str:
    """A scale as a person writes it.

    Example:
        >>> scale_text(1 / 255), scale_text(0.3), scale_text(1.0)
        ('1/255', '0.3', '')
    """
    if scale == 1.0:
        return ""
    whole = round(1 / scale) if 0 < scale < 1 else 0
    return f"1/{whole}" if whole and 1 / whole == scale else repr(scale)


def read_scale(text: str) -> float:
    """The inverse of :func:`scale_text`.

    Raises:
        ValueError: it is no number, in words.
    """
    above, slash, below = text.strip().partition("/")
    value, divisor = read_number(above or "1"), read_number(below) if slash else 1.0
    if value is None or not divisor or not math.isfinite(value / divisor) or value == 0:
        raise ValueError(f"scale: {text!r} is not a number. Write one, or a fraction such as 1/255")
    return value / divisor


def read_numbers(text: str, name: str) -> tuple[float, ...]:
    """Numbers from text such as ``0.4914, 0.4822, 0.4465``.

    Raises:
        ValueError: one of them is none, in words.
    """
    parts = text.replace(";", ",").replace(",", " ").split()
    values = [read_number(part) for part in parts]
    for part, value in zip(parts, values, strict=True):
        if value is None or not math.isfinite(value):
            raise ValueError(f"{name}: {part!r} is not a number. Write one for each channel, as in 0.49, 0.48, 0.45")
    return tuple(value for value in values if value is not None)


def numbers_text(values: tuple[float, ...]) -> str:
    """The inverse of :func:`read_numbers`."""
    return ", ".join(repr(value) for value in values)
