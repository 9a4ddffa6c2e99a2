"""Arguments of the public functions, refused where they mean nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real

from quant_lens_engine.errors import bad_argument


def _whole(least: int) -> tuple[str, Callable[[object], bool]]:
    return f"a whole number, {least} or more", lambda value: isinstance(value, Integral) and int(value) >= least


def _between(low: float, high: float, words: str) -> tuple[str, Callable[[object], bool]]:
    return words, lambda value: isinstance(value, Real) and low < float(value) < high


_POSITIVE = _between(0.0, math.inf, "a number above 0")

_MAY_BE = {
    "confidence": _between(0.0, 1.0, "a number between 0 and 1, neither of them"),
    "k": _whole(1),
    "bottom": _whole(0),
    "tol": _POSITIVE,
    "relative_error": _POSITIVE,
    "runs": _whole(1),
    "steps": _whole(1),
    "iters": _whole(1),
    "max_products": _whole(1),
}


def check_arguments(**given: object) -> None:
    """Refuse the first one, by its public name, that is not what it may be.

    Raises:
        InputError: ``bad_argument``, with the argument's name and what it may be.

    Example:
        >>> from quant_lens_engine.errors import InputError
        >>> try:
        ...     check_arguments(tol=1e-3, k=0)
        ... except InputError as error:
        ...     print(f"{error.message}: {error.hint}")
        k is 0: it may be a whole number, 1 or more
    """
    for name, value in given.items():
        words, allowed = _MAY_BE[name]
        if isinstance(value, bool) or not allowed(value):
            raise bad_argument(name, value, words)
