"""Pickles by their instructions: taken out, doubled, moved, with other numbers, or others put between."""

from __future__ import annotations

import pickletools
import random

from tests.fuzz.mutations import plain

_PUT_BETWEEN = (
    b"(", b")", b"]", b"}", b"0", b"2", b"N", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"s", b"u", b"e", b"a", b"Q",
    b"K\x01", b"J\xff\xff\xff\x7f", b"\x8a\xffx" + b"\x7f" * 254, b"q\x00", b"h\x00", b"h\x63",
    b"r\xff\xff\xff\x7f", b"\x94",
    b"X\x01\x00\x00\x00a", b"cos\nsystem\n", b"ctorch\nfloat32\n", b"ccollections\nOrderedDict\n", b"\x93", b"I1\n",
    b"I" + b"9" * 5000 + b"\n", b"L1L\n", b"F1e999\n", b"S'a'\n", b"V\\ud800\n", b"G" + b"\xff" * 8,
    b"\x80\x09", b"\x95" + b"\xff" * 8,
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"\x8e" + b"\xff" * 7 + b"\x7f", b"\x96" + b"\xff" * 7 + b"\x7f",
    b"T\xff\xff\xff\x7f",
    b"\x8b\xff\xff\xff\x7f", b"\x88", b"1", b"o", b"i__main__\nX\n", b"\x81", b"\x92", b"\x82\x01", b"\x97",
    b"\x98", b".",
    b"]" * 3000, b"(" * 3000, b"\x85" * 3000, b"2\x86" * 60,
)  # fmt: skip


def is_one(content: bytes) -> bool:
    """Whether it begins as one of protocol 2 or later does."""
    return content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def mutate(content: bytes, draw: random.Random) -> bytes:
    """One change of the program; where the bytes are no program any more, of the bytes."""
    places = []
    try:
        places = [place for _, _, place in pickletools.genops(content)]
    except Exception:  # damaged before; what came first is still there
        return plain.mutate(content, draw)
    parts = [content[first:last] for first, last in zip(places, [*places[1:], places[-1] + 1], strict=True)]
    rest = content[places[-1] + 1 :]  # a legacy file has more behind it
    at = draw.randrange(len(parts))
    kind = draw.randrange(6)
    if kind == 0:
        del parts[at]
    elif kind == 1:
        parts.insert(draw.randrange(len(parts)), parts[at])
    elif kind == 2:
        other = draw.randrange(len(parts))
        parts[at], parts[other] = parts[other], parts[at]
    elif kind == 3 and len(parts[at]) > 1:
        parts[at] = parts[at][:1] + plain.mutate(parts[at][1:], draw)
    else:
        parts.insert(at, draw.choice(_PUT_BETWEEN))
    return b"".join(parts) + rest
