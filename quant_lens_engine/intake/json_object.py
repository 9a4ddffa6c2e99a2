"""JSON from a file that may be anyone's: an object that names nothing twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from quant_lens_engine.errors import CheckpointError


def json_object(text: bytes, what: str, refusal: Callable[[str], CheckpointError]) -> dict[str, Any]:
    """A JSON object that names nothing twice, at any depth.

    Args:
        text: UTF-8.
        what: it is, for the message.
        refusal: makes the error from a reason.

    Raises:
        CheckpointError: that of ``refusal``.

    Example:
        >>> json_object(b'{"a": [1]}', "the index", CheckpointError)
        {'a': [1]}
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise refusal(f"{what} names {name[:80]!r} twice")
            found[name] = value
        return found

    try:
        whole = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise refusal(f"{what} is not JSON ({error.__class__.__name__})") from None
    if not isinstance(whole, dict):
        raise refusal(f"{what} is not a JSON object")
    return whole
