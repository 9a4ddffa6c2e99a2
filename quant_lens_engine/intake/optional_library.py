"""Libraries that some files need and an installation may lack: imported when they are asked for."""

from __future__ import annotations

import importlib
from types import ModuleType

from quant_lens_engine.errors import CheckpointError, InputError


def import_optional(
    name: str, *, hint: str, needed_for: str = "this", code: str = "library_missing",
    error: type[InputError] = CheckpointError,
) -> ModuleType:  # fmt: skip
    """The library, imported.

    Args:
        name: as it is imported.
        hint: how to get it, or to do without.
        needed_for: what asks for it, in words.
        code: of the error.
        error: its type.

    Raises:
        InputError: ``error`` with ``code``, with what importing it said: one that was built for another torch fails
            with anything.

    Example:
        >>> import_optional("json", hint="").__name__
        'json'
    """
    try:
        return importlib.import_module(name)
    except Exception as problem:
        reason = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0][:200]}"
        raise error(
            f"{needed_for} needs the library {name}, which cannot be imported here ({reason})", hint=hint, code=code
        ) from None
