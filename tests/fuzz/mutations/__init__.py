"""Changes of an input: one file a structure, each takes bytes and a source of chance and gives bytes.

The source of chance is a :class:`random.Random`: Hypothesis hands out one that it can shrink and replay.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.fuzz.mutations import json_tree, messages, pickles, plain, texts, zips

Mutation = Callable[[bytes, random.Random], bytes]

LARGEST = 1 << 20
"""Bytes of an input, at most: what is bounded is asked of small files."""

_BY_START: tuple[tuple[Callable[[bytes], bool], Mutation], ...] = (
    (zips.is_one, zips.mutate),
    (pickles.is_one, pickles.mutate),
    (json_tree.is_one, json_tree.mutate),
    (json_tree.is_behind_a_length, json_tree.mutate_behind_a_length),
)


def mutated(content: bytes, draw: random.Random, kind: str = "") -> bytes:
    """``content`` with one to four changes, most of them by its structure.

    Args:
        content: an honest input, or one that was changed before.
        draw: chance.
        kind: ``protobuf`` or ``text``, which cannot be told by their first bytes.
    """
    for _ in range(draw.randint(1, 4)):
        content = _structured(content, draw, kind) if draw.randrange(6) else plain.mutate(content, draw)
        content = content[:LARGEST] or b"0"
    return content


def _structured(content: bytes, draw: random.Random, kind: str) -> bytes:
    if kind == "protobuf":
        return messages.mutate(content, draw)
    if kind == "text":
        return texts.mutate(content, draw)
    mutate = next((mutate for matches, mutate in _BY_START if matches(content)), plain.mutate)
    if mutate is zips.mutate:
        return zips.mutate(content, draw, mutated)
    return mutate(content, draw)
