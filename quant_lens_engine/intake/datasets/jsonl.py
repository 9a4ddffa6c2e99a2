"""JSON lines: one text a line, ``{"text": "…"}``, with a class number where texts are classified."""

from __future__ import annotations

import json
from typing import Any

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, DataFormat, Given
from quant_lens_engine.intake.texts import MAX_LINE_BYTES, Lines, Texts

JSONL_HINT = 'one JSON object a line: {"text": "…"}, for a classification {"text": "…", "label": 0}'
"""What such a file is, in one line."""

_TEXTS = ("text", "content", "sentence", "document", "story", "body")
_LABELS = ("label", "labels", "class", "target")


def _recognises(given: Given) -> bool:
    """Its first line is a JSON object."""
    start = given.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith(b"{"):
        return False
    if b"\n" not in start:
        with given.path.open("rb") as file:
            start = file.readline(MAX_LINE_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
    try:
        return isinstance(json.loads(start.partition(b"\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def _read(given: Given) -> Arrays:
    lines = Lines(given.path)
    first = _object(lines, 0)
    key = next((name for name in _TEXTS if isinstance(first.get(name), str)), None)
    if key is None:
        texts = [name for name, value in first.items() if isinstance(value, str)]
        if len(texts) != 1:
            raise DataError(
                f"the first line has no text; its keys are {', '.join(map(repr, list(first)[:8])) or 'none'}",
                hint=JSONL_HINT,
                code="missing_text",
            )
        key = texts[0]
    label = next((name for name in _LABELS if name in first), None)
    notes = [] if key == "text" else [f"The texts are under {key!r}."]

    def read(index: int) -> str:
        value = _object(lines, index).get(key)
        if isinstance(value, str):
            return value
        raise _bad(lines, index, f"has no text under {key!r}", "missing_text")

    def read_label(index: int) -> int:
        value = _object(lines, index).get(label or "")
        if type(value) is int and value >= 0:
            return value
        raise _bad(lines, index, f"has no class number under {label!r}", "bad_labels")

    return Texts(lines.lengths, None, tuple(notes), None, read, None if label is None else read_label)


def _object(lines: Lines, index: int) -> dict[str, Any]:
    try:
        found = json.loads(lines.read(index).removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise _bad(lines, index, f"is not JSON ({error.__class__.__name__})", "bad_text") from None
    if not isinstance(found, dict):
        raise _bad(lines, index, "is no JSON object", "bad_text")
    return found


def _bad(lines: Lines, index: int, what: str, code: str) -> DataError:
    number = int(lines.numbers[index])
    return DataError(f"line {number} {what}", hint=JSONL_HINT, code=code, details={"line": number})


DATA_FORMATS.add(
    "jsonl", DataFormat(_recognises, _read, (".jsonl", ".ndjson"), 'texts, one JSON object a line: {"text": "…"}')
)
