"""numpy's ``.npz``: a zip of arrays. Headers are read and checked against the file before any array is."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets import DATA_FORMATS, SAVE_DATA_HINT, Arrays, DataFormat
from quant_lens_engine.intake.zip_archive import Member, UnsoundArchiveError, read_directory

MAX_INFLATED_BYTES = 2 << 30
"""A compressed array is held in memory whole; an uncompressed one is mapped, and may be larger."""
_MAX_HEADER_BYTES = 10_000

_ROWS = ("x", "X", "images", "inputs", "features", "data", "x_test", "X_test", "arr_0")
_LABELS = ("y", "Y", "labels", "label", "targets", "target", "y_test", "arr_1")


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size: int

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _recognises(head: bytes, path: Path) -> bool:
    if head.startswith(b"\x93NUMPY"):
        return True
    if not head.startswith(b"PK"):
        return False
    try:
        return any(name.endswith(".npy") for name in read_directory(path))
    except UnsoundArchiveError:
        return b".npy" in head[:300]


def _read(path: Path) -> Arrays:
    with path.open("rb") as file:
        if file.read(6) == b"\x93NUMPY":
            raise DataError("a single array (.npy): rows and labels are needed", hint=SAVE_DATA_HINT, code="not_data")
    try:
        members = read_directory(path)
    except UnsoundArchiveError as error:
        code = "npz_bomb" if error.bomb else "truncated_file" if error.truncated else "bad_npz"
        hint = "the file is cut off: upload it again" if error.truncated else SAVE_DATA_HINT
        raise DataError(f"not a sound .npz: {error}", hint=hint, code=code) from None
    arrays = {name.removesuffix(".npy"): member for name, member in members.items() if name.endswith(".npy")}
    x_name, y_name = _pick(arrays, _ROWS), _pick(arrays, _LABELS)
    if x_name is None:
        raise DataError(
            f"it has no array x; it holds {', '.join(sorted(arrays)[:8]) or 'none'}",
            hint=SAVE_DATA_HINT,
            code="missing_array",
        )
    notes = [
        f"The array {name!r} was taken as {meant}."
        for name, meant in ((x_name, "x"), (y_name, "y"))
        if name not in (None, meant)
    ]
    x = _array(path, x_name, arrays[x_name])
    return Arrays(x, None if y_name is None else _array(path, y_name, arrays[y_name]), tuple(notes))


def _pick(arrays: dict[str, Member], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in arrays), None)


def _array(path: Path, name: str, member: Member) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(member.name) as stream:
        try:
            header = _header(stream.read(min(_MAX_HEADER_BYTES + 16, member.size)))
        except Exception as error:  # numpy's parser lets those of tokenize and ast through
            raise DataError(
                f"the array {name!r} has a malformed header ({error.__class__.__name__})", hint=SAVE_DATA_HINT,
                code="bad_npz",
            ) from None  # fmt: skip
    _check_header(name, header, member)
    order: Any = "F" if header.fortran_order else "C"
    if member.stored and header.data_bytes:
        start = member.offset + header.size
        return np.memmap(path, header.dtype, mode="r", offset=start, shape=header.shape, order=order)
    if header.data_bytes > MAX_INFLATED_BYTES:
        raise DataError(
            f"the compressed array {name!r} would take {header.data_bytes} bytes of memory",
            hint="save it uncompressed with numpy.savez, or with fewer rows",
            code="npz_bomb",
        )
    return np.ndarray(header.shape, header.dtype, _inflate(path, name, member, header), order=order)


def _inflate(path: Path, name: str, member: Member, header: _Header) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member.name) as stream:
            stream.read(header.size)
            content = stream.read(header.data_bytes)
    except Exception as error:  # zipfile's, zlib's and the system's have no common base
        raise _cut(name, error.__class__.__name__) from None
    if len(content) != header.data_bytes:
        raise _cut(name, f"{len(content)} of {header.data_bytes} bytes")
    return content


def _header(start: bytes) -> _Header:
    stream = io.BytesIO(start)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(stream, max_header_size=_MAX_HEADER_BYTES)
    return _Header(tuple(int(size) for size in shape), bool(fortran_order), dtype, stream.tell())


def _check_header(name: str, header: _Header, member: Member) -> None:
    if header.dtype.hasobject:
        raise DataError(
            f"the array {name!r} holds Python objects, which would have to be unpickled; it was not opened",
            hint="save numbers: x.astype('float32'), y.astype('int64')",
            code="object_array",
        )
    if header.dtype.kind not in "fiub":
        raise DataError(
            f"the array {name!r} holds {header.dtype}, not numbers", hint=SAVE_DATA_HINT, code="not_numbers"
        )
    if any(size < 0 for size in header.shape) or header.data_bytes != member.size - header.size:
        raise DataError(
            f"the array {name!r} claims the shape {list(header.shape)} of {header.dtype} "
            f"({header.data_bytes} bytes), the file holds {member.size - header.size}",
            hint="the file is damaged: save it again",
            code="bad_npz",
        )


def _cut(name: str, reason: str) -> DataError:
    return DataError(
        f"the array {name!r} cannot be read to its end ({reason})", hint="the file is damaged: upload it again",
        code="truncated_file",
    )  # fmt: skip


DATA_FORMATS.add("npz", DataFormat(_recognises, _read, (".npz",), "numpy archive with the arrays x and y"))
