"""Sample pictures as PNG data, without a picture library: the web image has none, and these are a few pixels wide."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any


def png_data_url(pixels: Sequence[Any]) -> str | None:
    """Rows of greyscale numbers or of RGB triples, 0 to 255, as a data URL; None for what is not a picture.

    Example:
        >>> png_data_url([[0, 255], [255, 0]])[:22]
        'data:image/png;base64,'
    """
    if not pixels or not isinstance(pixels[0], list) or not pixels[0]:
        return None
    colour = isinstance(pixels[0][0], list)
    channels = len(pixels[0][0]) if colour else 1
    if channels not in (1, 3) or any(len(row) != len(pixels[0]) for row in pixels):
        return None
    flat = [[value for pixel in row for value in pixel] if colour else row for row in pixels]
    lines = b"".join(b"\0" + bytes(_byte(value) for value in row) for row in flat)
    header = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 2 if channels == 3 else 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines)) + _chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _byte(value: float | None) -> int:
    return 0 if value is None or not math.isfinite(value) else max(0, min(255, round(value)))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
