"""Plain text in UTF-8: one running text, or a text a line."""

from __future__ import annotations

from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, DataFormat, Given
from quant_lens_engine.intake.texts import Lines, Texts, is_text

PLAIN_TEXT = "text"
"""Nothing in such a file marks it: where something else could be meant, its name decides."""


def _recognises(given: Given) -> bool:
    return is_text(given.head) and b" " in given.head and given.head.lstrip()[:1] not in (b"{", b"<")


def _read(given: Given) -> Arrays:
    lines = Lines(given.path)
    return Texts(lines.lengths, None, (), None, lines.read, None, running=True)


DATA_FORMATS.add(
    PLAIN_TEXT, DataFormat(_recognises, _read, (".txt", ".text", ".md"), "plain text in UTF-8, for a language model")
)
