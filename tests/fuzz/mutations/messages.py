"""Protobuf messages by their wire format: fields changed, doubled, taken out or moved, with lengths made right again.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import random

from tests.fuzz.mutations import plain

_DEEPEST = 6


def mutate(content: bytes, draw: random.Random, depth: int = 0) -> bytes:
    """One change of a field, at any depth."""
    fields = _fields(content)
    if not fields:
        return plain.mutate(content, draw)
    place = draw.randrange(len(fields))
    number, kind, value = fields[place]
    if kind == 2 and depth < _DEEPEST and draw.randrange(4) and _fields(value):
        fields[place] = number, kind, mutate(value, draw, depth + 1)
        return _written(fields)
    act = draw.randrange(7)
    if act == 0:
        del fields[place]
    elif act == 1:
        fields.insert(draw.randrange(len(fields)), fields[place])
    elif act == 2:
        fields[place] = draw.randint(1, 20), kind, value
    elif act == 3:
        fields[place] = number, 0, draw.choice(plain.NUMBERS)
    elif act == 4:
        nested = b""
        for _ in range(draw.choice([3, 120, 3000])):
            nested = _written([(number, 2, nested)])
        fields[place] = number, 2, nested
    elif kind == 2:
        fields[place] = number, kind, draw.choice([b"", b"\xff\xfe", b"x" * 300, plain.mutate(value or b"0", draw)])
    else:
        fields[place] = number, kind, draw.choice(plain.NUMBERS) if kind == 0 else draw.randbytes(len(value))
    return _written(fields)


def _fields(content: bytes) -> list[tuple[int, int, int | bytes]]:
    """Number, wire type and value of every field; [] where the bytes are no message."""
    found: list[tuple[int, int, int | bytes]] = []
    place = 0
    while place < len(content):
        key, place = _number(content, place)
        kind = key & 7
        value: int | bytes
        if kind == 0:
            value, place = _number(content, place)
        elif kind in (1, 2, 5):
            size, place = (8, place) if kind == 1 else (4, place) if kind == 5 else _number(content, place)
            value, place = content[place : place + size], place + size
        else:
            return []
        if place > len(content) or key < 8:
            return []
        found.append((key >> 3, kind, value))
    return found


def _number(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(content) and shift < 70:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    return 0, len(content) + 1


def _written(fields: list[tuple[int, int, int | bytes]]) -> bytes:
    parts = []
    for number, kind, value in fields:
        parts.append(_varint(number << 3 | kind))
        if isinstance(value, int):
            parts.append(_varint(value))
        else:
            parts += [_varint(len(value)), value] if kind == 2 else [value]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))
