"""How a number is written, everywhere: three significant digits, a true minus, thin spaces, its error beside it.

The full number is never lost: whoever shows :func:`number` shows :func:`exact` on hover.
"""

from __future__ import annotations

import math

MINUS = "\u2212"
THIN_SPACE = "\u2009"
ABSENT = "–"

_MOST_DIGITS = 5
"""A small error earns its value more digits, up to this many."""


def number(value: float | None, *, digits: int = 3, signed: bool = False) -> str:
    """``value`` with ``digits`` significant digits; from 1 000 on, whole numbers in groups of three.

    Example:
        >>> number(0.07114), number(-18.06), number(1204.4).replace(THIN_SPACE, " "), number(0.000138)
        ('0.0711', '−18.1', '1 204', '1.38e−4')
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    return _written(value, _decimals(value, digits), digits, signed)


def measured(value: float | None, error: float | None, *, signed: bool = False) -> tuple[str, str]:
    """``value`` and its error, written to the same decimal; the error is ``""`` where there is none.

    The error has two significant digits, or one where two would give the value more than three; the value none that
    the error makes meaningless.

    Example:
        >>> measured(0.0711, 0.01382), measured(18.52, 1.06), measured(3.15415, 0.0021)
        (('0.071', '0.014'), ('18.5', '1.1'), ('3.154', '0.002'))
        >>> measured(0.00307, 0.06001), measured(0.0000314, 0.00021)
        (('0.003', '0.060'), ('3e−5', '2.1e−4'))
    """
    if value is None or not math.isfinite(value):
        return ABSENT, ""
    if error is None or not math.isfinite(error):
        return number(value, signed=signed), ""
    if error == 0:
        return number(value, signed=signed), "0"
    scientific = not 1e-3 <= max(abs(value), error) < 1e6
    if not value:
        return "0", _to_decimal(error, _decimals(error, 2), scientific)
    usual = _decimals(value, 3) if scientific else max(_decimals(value, 3), 0)
    most = max(usual, _decimals(value, _MOST_DIGITS))
    decimals = min(max(usual, _decimals(error, 1)), _decimals(error, 2), most)
    shown = _to_decimal(value, decimals, scientific, signed)
    small = error < 10.0**-decimals
    return shown, number(error, digits=2) if small else _to_decimal(error, decimals, scientific)


def with_error(value: float | None, error: float | None, *, signed: bool = False) -> str:
    """:func:`measured` as one text.

    Example:
        >>> with_error(18.52, 1.06)
        '18.5 ± 1.1'
    """
    shown, spread = measured(value, error, signed=signed)
    return f"{shown} ± {spread}" if spread else shown


def exact(value: float | None) -> str:
    """All digits that the number has.

    Example:
        >>> exact(0.1), exact(None)
        ('0.1', 'not available')
    """
    if value is None or not math.isfinite(value):
        return "not available"
    text = f"{value:.0f}" if float(value).is_integer() else repr(float(value))
    return text.replace("-", MINUS)


def percent(fraction: float | None, *, digits: int = 3) -> str:
    """A fraction as a percentage.

    Example:
        >>> percent(0.989).replace(THIN_SPACE, " ")
        '98.9 %'
    """
    return ABSENT if fraction is None else f"{number(100 * fraction, digits=digits)}{THIN_SPACE}%"


def count(value: int | None) -> str:
    """A whole number, every digit of it."""
    return ABSENT if value is None else _grouped(value, 0)


def count_span(lower: float | None, upper: float | None) -> str:
    """The interval of a count, in whole numbers, rounded outwards; nothing where an end is not known.

    Example:
        >>> count_span(36.1, 921.2), count_span(None, 3.0)
        ('36 to 922', '')
    """
    if lower is None or upper is None:
        return ""
    return f"{_grouped(math.floor(lower), 0)} to {_grouped(math.ceil(upper), 0)}"


def amount(value: float | None) -> str:
    """A count for a headline.

    Example:
        >>> amount(93642).replace(THIN_SPACE, " "), amount(640)
        ('93.6 k', '640')
    """
    return ABSENT if value is None else _prefixed(value, 1000, ("", "k", "M", "G", "T"))


def size(size_bytes: float | None) -> str:
    """A size in decimal bytes.

    Example:
        >>> size(377000).replace(THIN_SPACE, " ")
        '377 kB'
    """
    return ABSENT if size_bytes is None else _prefixed(size_bytes, 1000, ("B", "kB", "MB", "GB", "TB"))


def duration(seconds: float | None) -> str:
    """A length of time, to the unit that matters.

    Example:
        >>> duration(0.83), duration(98), duration(3720), duration(0.01)
        ('0.8 s', '1 min 38 s', '1 h 2 min', '< 0.1 s')
    """
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if 0 < seconds < 0.05:
        return "< 0.1 s"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = whole // 60
    if minutes < 1440:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value)))


def _decimals(value: float, digits: int) -> int:
    decimals = digits - 1 - _exponent(value)
    # 9.996 to three digits is 10.0, not 10.00
    return decimals - 1 if _exponent(float(f"{value:.{digits - 1}e}")) > _exponent(value) else decimals


def _written(value: float, decimals: int, digits: int, signed: bool) -> str:
    if abs(value) < 1e-3 or abs(value) >= 1e6:
        text = _scientific(abs(value), digits)
    else:
        text = _grouped(abs(value), max(decimals, 0))
    return f"{MINUS if value < 0 else '+' if signed else ''}{text}"


def _scientific(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    return f"{mantissa}e{MINUS if power < 0 else ''}{abs(power)}"


def _to_decimal(value: float, decimals: int, scientific: bool, signed: bool = False) -> str:
    """``value`` rounded to ``10**-decimals``, which may be tens or thousands; one that rounds to zero has no sign."""
    rounded = round(value, decimals)
    if scientific:
        text = _scientific(abs(rounded), max(_exponent(rounded) + decimals, 0) + 1) if rounded else "0"
    else:
        text = _grouped(abs(rounded), max(decimals, 0))
    sign = MINUS if rounded < 0 else "+" if signed and rounded else ""
    return f"{sign}{text}"


def _grouped(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace(",", THIN_SPACE)


def _prefixed(value: float, base: int, prefixes: tuple[str, ...]) -> str:
    step = 0
    while abs(value) >= 999.5 and step < len(prefixes) - 1:
        value /= base
        step += 1
    shown = f"{value:.0f}" if step == 0 else number(value)
    return f"{shown}{THIN_SPACE}{prefixes[step]}" if prefixes[step] else shown
