"""What torch.save wrote before 1.6: five pickles in a row, then the bytes of each storage.

Many published checkpoints still have this form. torch's own reader trusts its claims and can be made to return memory
that was never written; here every storage is found at its place in the file, and file and claims must agree to the
last byte.
"""

from __future__ import annotations

import io
from itertools import chain
from pathlib import Path
from typing import Any

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import FORMATS, SAVE_HINT, CheckpointFormat
from quant_lens_engine.intake.formats.layout import Contents
from quant_lens_engine.intake.formats.pickle_program import (
    PickledDict,
    StorageReference,
    TensorReference,
    follow_pickle,
)
from quant_lens_engine.intake.formats.torch_storages import find_parts, place_parts
from quant_lens_engine.intake.given import GivenFile

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAGIC_BYTES = _MAGIC.to_bytes(10, "little")
_MAX_PROGRAM_BYTES = 64 << 20


def is_legacy(given: GivenFile) -> bool:
    """Whether a file begins as torch.save began before 1.6."""
    return begins_as_legacy(given.head)


def begins_as_legacy(head: bytes) -> bool:
    """The same, from a file's first bytes."""
    return head.startswith(b"\x80") and _MAGIC_BYTES in head[:16]


def read_programs(path: Path, start: int = 0, size: int | None = None) -> io.BytesIO:
    """The beginning of a file, which holds all of its pickles."""
    with path.open("rb") as file:
        file.seek(start)
        rest = path.stat().st_size - start if size is None else size
        return io.BytesIO(file.read(min(rest, _MAX_PROGRAM_BYTES)))


def _read(given: GivenFile) -> Contents:
    return read_legacy(given.path, 0, given.path.stat().st_size)


def read_legacy(path: Path, start: int, size: int) -> Contents:
    """The state dicts of such a file.

    Args:
        path: the file that it is, or lies in.
        start: its first byte there.
        size: its bytes.

    Raises:
        CheckpointError: what is wrong with it.
    """
    stream = read_programs(path, start, size)
    magic, protocol, system, root, keys = (follow_pickle(stream) for _ in range(5))
    if magic != _MAGIC or protocol != _PROTOCOL or not _little_endian(system) or not isinstance(keys, list):
        raise CheckpointError("its preamble is not that of torch.save", hint=SAVE_HINT, code="bad_pickle")
    if not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise CheckpointError("its list of storages is malformed", hint=SAVE_HINT, code="bad_pickle")
    storages = _storage_places(path, start + stream.tell(), start + size, keys, _storages_in(root))
    said = "An old file of torch.save (before 1.6): read as data, nothing in it was run."
    return place_parts(find_parts(root), storages, said)


def _storage_places(
    path: Path, position: int, end: int, keys: list[str], claimed: dict[str, StorageReference]
) -> dict[str, tuple[int, int]]:
    """Byte offset and size of each storage: an int64 count, then the elements; nothing may remain."""
    places: dict[str, tuple[int, int]] = {}
    with path.open("rb") as file:
        for key in keys:
            file.seek(position)
            elements = int.from_bytes(file.read(8), "little", signed=True)
            storage = claimed.get(key)
            if storage is None or elements != storage.elements:
                raise _disagrees(f"storage {key[:40]!r} is not the one that its tensors describe")
            position += 8
            length = elements * storage.dtype.itemsize
            if length < 0 or position + length > end:
                raise _disagrees(f"storage {key[:40]!r} of {length} bytes goes beyond the end of the file", cut=True)
            places[key] = (position, length)
            position += length
    if position != end:
        raise _disagrees(f"{end - position} bytes follow the last storage")
    return places


def _storages_in(root: Any) -> dict[str, StorageReference]:
    """Every storage that the pickle's tensors name, optimizer state included: each value is looked at once."""
    found: dict[str, StorageReference] = {}
    waiting, seen = [root], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, TensorReference):
            value = value.storage
        if isinstance(value, StorageReference):
            if found.setdefault(value.key, value) != value:
                raise _disagrees(f"storage {value.key[:40]!r} is described twice")
        elif isinstance(value, PickledDict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(chain.from_iterable(value.pairs) if isinstance(value, PickledDict) else value)
    return found


def _little_endian(system: Any) -> bool:
    return isinstance(system, PickledDict) and dict(system.named()).get("little_endian", True) is True


def _disagrees(reason: str, *, cut: bool = False) -> CheckpointError:
    return CheckpointError(
        f"not a sound torch file: {reason}",
        hint="the file is cut off: upload it again" if cut else SAVE_HINT,
        code="truncated_file" if cut else "storage_mismatch",
    )


FORMATS.add(
    "torch-legacy",
    CheckpointFormat(is_legacy, _read, (".pt", ".pth", ".th"), "torch.save before 1.6", general=True),
)
