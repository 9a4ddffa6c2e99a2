"""Bytes that know nothing of what they mean; headers and tails are hit as often as the rest."""

from __future__ import annotations

import random
import struct

NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1,
           2**63, 2**64 - 1)  # fmt: skip
"""Where types end, and signs turn."""


def mutate(content: bytes, draw: random.Random) -> bytes:
    """One change: a bit, a byte, a number of any width, bytes taken out, put in, or copied from another place."""
    changed = bytearray(content or b"0")
    size = len(changed)
    place = draw.choice(
        [draw.randrange(size), draw.randrange(min(size, 200)), size - 1 - draw.randrange(min(size, 400))]
    )
    kind = draw.randrange(7)
    if kind == 0:
        changed[place] ^= 1 << draw.randrange(8)
    elif kind == 1:
        changed[place] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x22, 0x2E])
    elif kind == 2:
        width, order = draw.choice("BHIQ"), draw.choice("<>")
        number = struct.pack(order + width, draw.choice(NUMBERS) % 2 ** (8 * struct.calcsize(width)))
        changed[place : place + len(number)] = number
    elif kind == 3:
        del changed[place : place + draw.choice([1, 2, 4, 8, 32, size])]
    elif kind == 4:
        changed[place:place] = draw.randbytes(draw.randint(1, 8))
    elif kind == 5:
        start = draw.randrange(size)
        changed[place:place] = changed[start : start + draw.randint(1, 64)]
    else:
        del changed[: draw.randrange(min(size, 64))]
    return bytes(changed)
