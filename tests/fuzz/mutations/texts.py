"""Text: characters that mean something to a table, a list or a query, put anywhere."""

from __future__ import annotations

import random

from tests.fuzz.mutations import plain

_PIECES = (
    ",", ";", "\t", "\n", "\r", '"', "'", "\\", "(", ")", "[", "]", "{", "}", ":", "=", "<", ">", "-", "+", "|", "&",
    "*", "nan", "inf", "-inf", "1e999", "0x1", "1_0", "9" * 25, "9" * 5000, "é", "\ufeff", "\0", "\u2028",
    "\u0661", "(" * 200,
    "(" * 20000, "not ", "and", "or ", '""', "--", "#", "true", "null", "/", "..", "%00", "\U0001f600", " ", "\xa0",
)  # fmt: skip


def mutate(content: bytes, draw: random.Random) -> bytes:
    """One piece put in, or a stretch taken out or copied."""
    text = content.decode("utf-8", "surrogateescape")
    place = draw.randrange(len(text) + 1)
    kind = draw.randrange(6)
    if kind == 0:
        return plain.mutate(content, draw)
    if kind == 1:
        text = text[:place] + text[place + draw.choice([1, 2, 8, 64]) :]
    elif kind == 2:
        start = draw.randrange(len(text) + 1)
        text = text[:place] + text[start : start + draw.choice([1, 4, 32])] + text[place:]
    else:
        text = text[:place] + draw.choice(_PIECES) + text[place:]
    return text.encode("utf-8", "surrogateescape")
