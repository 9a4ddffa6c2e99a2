"""What an engine process tells, held against the record that was asked for: by then a file's code may speak for it."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from quant_lens_engine.errors import InternalFault
from quant_lens_engine.schema import ErrorBody, Record

log = logging.getLogger(__name__)

LONGEST_ANSWER_BYTES = 16 * 2**20
"""Of an inspection or a check: some 100,000 tensors. Every list of files reads those of all files."""

_LONGEST_ERROR_BYTES = 2**16
_Kind = TypeVar("_Kind", bound=Record)


def checked(kind: type[_Kind], told: object, *, at_most_bytes: int = LONGEST_ANSWER_BYTES) -> _Kind:
    """The record that was told, with nothing in it that it has no field for.

    Args:
        kind: the record that was asked for.
        told: JSON as Python has it.
        at_most_bytes: its length as JSON.

    Raises:
        InternalFault: ``invalid_result``; it is no such record, too long, or cannot be written as JSON.

    Example:
        >>> checked(ErrorBody, {"code": "x", "message": "y", "more": 1}).code
        'x'
    """
    try:
        text = kind.model_validate(told).model_dump_json()
        if len(text) <= at_most_bytes:
            return kind.model_validate_json(text)  # as a reader of the store will: NaN is null by now
        problem = f"{len(text)} bytes long"
    except (ValueError, RecursionError) as error:
        problem = f"{type(error).__name__}: {str(error)[:500]}"
    log.error("the engine's answer is no %s: %s", kind.__name__, problem)
    raise InternalFault(
        "the engine's answer is not a result", hint="the worker's log says more", code="invalid_result"
    )  # fmt: skip


def checked_error(message: dict[str, Any]) -> ErrorBody:
    """The error of a message ``failed``.

    Raises:
        InternalFault: ``invalid_result``.
    """
    return checked(ErrorBody, message.get("error"), at_most_bytes=_LONGEST_ERROR_BYTES)
