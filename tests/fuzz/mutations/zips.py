"""Zips: a member's content (by its own structure), its name, its method, what the directory says of it."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zipfile
from collections.abc import Callable

from tests.fuzz.mutations import plain

_NAMES = ("../x", "/etc/passwd", "a/../b", "data.pkl", "m/data.pkl", "config.json", "model.safetensors", "x.npy",
          "code/a.py", "constants.pkl", "a" * 300, "\u6a21", ".hidden", "a//b", "version",
          "byteorder", "C:x", "a/")  # fmt: skip
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_FIELDS = {_LOCAL: range(4, 30), _CENTRAL: range(4, 46), _END: range(4, 22)}


def is_one(content: bytes) -> bool:
    """Whether it begins as one does."""
    return content[:2] == b"PK"


def mutate(content: bytes, draw: random.Random, inner: Callable[[bytes, random.Random], bytes]) -> bytes:
    """One change; ``inner`` changes a member's content."""
    kind = draw.randrange(10)
    if kind < 2:
        return _in_a_record(content, draw)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [(entry, archive.read(entry)) for entry in archive.infolist()[:200]]
    except Exception:  # it has been damaged before
        return plain.mutate(content, draw)
    if not entries:
        return plain.mutate(content, draw)
    place = draw.randrange(len(entries))
    entry, body = entries[place]
    if kind == 2:
        entry.filename = draw.choice(_NAMES)
    elif kind == 3:
        del entries[place]
    elif kind == 4:
        entries.insert(draw.randrange(len(entries)), (zipfile.ZipInfo(draw.choice(_NAMES)), body))
    elif kind == 5:
        entry.compress_type = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
    else:
        entries[place] = entry, inner(body, draw)
    return _written(entries)


def _written(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of one name
        with zipfile.ZipFile(stream, "w") as archive:
            for entry, body in entries:
                new = zipfile.ZipInfo(entry.filename)
                new.compress_type, new.external_attr = entry.compress_type, entry.external_attr
                archive.writestr(new, body)
    return stream.getvalue()


def _in_a_record(content: bytes, draw: random.Random) -> bytes:
    """A number in a member's header, in the directory, or in the record at the end."""
    mark = draw.choice([_LOCAL, _CENTRAL, _END])
    places = [place for place in range(len(content) - 4) if content.startswith(mark, place)]
    if not places:
        return plain.mutate(content, draw)
    changed = bytearray(content)
    width = draw.choice("BHI")
    number = struct.pack("<" + width, draw.choice(plain.NUMBERS) % 2 ** (8 * struct.calcsize(width)))
    place = draw.choice(places) + draw.choice(_FIELDS[mark])
    changed[place : place + len(number)] = number
    return bytes(changed[: len(content)])
