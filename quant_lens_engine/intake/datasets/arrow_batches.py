"""Batches of a table of Arrow, each checked before anything in it is used: a wild offset would be followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from quant_lens_engine.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def validated(batches: Iterator[pa.RecordBatch], refusal: Callable[[str], DataError]) -> Iterator[pa.RecordBatch]:
    """The batches, or an error in the words of ``refusal`` for the first that cannot be had."""
    while True:
        try:
            batch = next(batches, None)
            if batch is not None:
                batch.validate(full=True)
        except Exception as error:  # Arrow's own, the system's, and those of codecs
            raise refusal(first_line(error)) from None
        if batch is None:
            return
        yield batch


def first_line(error: Exception) -> str:
    """Kind and first words of an error of a library."""
    return f"{error.__class__.__name__}: {str(error).partition(chr(10))[0][:120]}"
