"""JSON: a value of the tree becomes another one, is taken out, doubled, named twice, or buried deep."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from tests.fuzz.mutations import plain

_MOST_NODES = 4000


def values(draw: random.Random) -> Any:
    """What a field is not expected to be."""
    return draw.choice([
        None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30, 10**400, 1e308, -0.0, 0.5,
        float("nan"), float("inf"), "", "a", "\0", "\ud800", "../x", "9" * 40, "é" * 300, "None", "as_int", [], {},
        [[]], {"": {}}, [None], [0] * 70, {"a": 1}, draw.randrange(-10, 300), str(draw.randrange(100)),
    ])  # fmt: skip


def is_one(content: bytes) -> bool:
    """Whether it begins as an object does."""
    return content[:1] == b"{"


def mutate(content: bytes, draw: random.Random) -> bytes:
    """One change of the tree; where the bytes are no JSON any more, of the bytes."""
    try:
        tree = json.loads(content)
        places = _places(tree)
    except (ValueError, RecursionError):
        return plain.mutate(content, draw)
    kind = draw.randrange(12)
    if kind == 0 or not places:
        return _buried(content, draw)
    if kind == 1:
        return _named_twice(content, draw)
    parent, key = places[draw.randrange(len(places))]
    _change(parent, key, kind, draw, places)
    try:
        return json.dumps(tree).encode()
    except (ValueError, RecursionError):
        return content


def is_behind_a_length(content: bytes) -> bool:
    """Whether it is a safetensors file: an object behind its length in eight bytes."""
    return content[8:9] == b"{" and struct.unpack("<Q", content[:8])[0] <= len(content)


def mutate_behind_a_length(content: bytes, draw: random.Random) -> bytes:
    """The header changed, with its length made right again, most of the time."""
    (size,) = struct.unpack("<Q", content[:8])
    header = mutate(content[8 : 8 + size].rstrip(), draw)
    if not draw.randrange(8):
        return content[:8] + header + content[8 + size :]
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every value by what holds it and its key there."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < _MOST_NODES:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        found += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    return found


def _change(parent: Any, key: Any, kind: int, draw: random.Random, places: list[tuple[Any, Any]]) -> None:
    if kind in (2, 3):
        del parent[key]
    elif kind == 4:
        other, where = places[draw.randrange(len(places))]
        parent[key] = json.loads(json.dumps(other[where]))
    elif kind == 5 and isinstance(parent, dict):
        parent[draw.choice(["", "__metadata__", "a.b", "config", key + "x", key.upper()])] = parent.pop(key)
    elif kind == 6 and isinstance(parent, list):
        parent.insert(key, json.loads(json.dumps(parent[key])))
    elif isinstance(parent[key], int) and not isinstance(parent[key], bool) and draw.randrange(2):
        parent[key] += draw.choice([-1, 1, 4, 2**31, 2**62])
    else:
        parent[key] = values(draw)


def _buried(content: bytes, draw: random.Random) -> bytes:
    """Deeper than any reader's stack."""
    opening, closing = draw.choice([(b"[", b"]"), (b'{"a":', b"}")])
    depth = draw.choice([20, 900, 5000, 60_000])
    whole = opening * depth + b"1" + closing * depth
    return b'{"a":' + whole + b"," + content[1:] if draw.randrange(2) else whole


def _named_twice(content: bytes, draw: random.Random) -> bytes:
    tree = json.loads(content)
    if not isinstance(tree, dict) or not tree:
        return content
    name = draw.choice(list(tree))
    return json.dumps({name: tree[name]}).encode()[:-1] + b"," + content.lstrip()[1:]
