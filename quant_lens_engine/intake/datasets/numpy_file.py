"""One array in numpy's ``.npy`` form, in a file or an archive: its header is held against the member before it is read.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets import SAVE_DATA_HINT, Arrays
from quant_lens_engine.intake.tree import Tree

MAX_INFLATED_BYTES = 2 << 30
"""A compressed array is held in memory whole; an uncompressed one is mapped, and may be larger."""
_MAX_HEADER_BYTES = 10_000
_MOST_AXES = 32
_LONGEST_AXIS = 1 << 48
"""An axis of length zero beside it makes any claim agree with the file."""

MAGIC = b"\x93NUMPY"
ROW_NAMES = ("x", "X", "images", "inputs", "features", "data", "x_test", "X_test", "arr_0")
LABEL_NAMES = ("y", "Y", "labels", "label", "targets", "target", "y_test", "arr_1")
"""What rows and labels are called in files, the likeliest first."""


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size: int

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def named_arrays(tree: Tree) -> Arrays:
    """The rows and labels among a tree's ``.npy`` members.

    Raises:
        DataError: ``missing_array``, ``object_array``, ``not_numbers``, ``bad_npz``, ``npz_bomb``, ``truncated_file``.
    """
    arrays = {member.rpartition("/")[2][: -len(".npy")]: member for member in tree.ending(".npy")}
    x_name, y_name, notes = pick_names(arrays)
    x = read_array(tree, arrays[x_name], x_name)
    unread = sorted(name for name in tree.sizes if name not in (arrays[x_name], arrays.get(y_name or "")))
    if unread:
        notes.append(f"Not read: {', '.join(unread[:5])}" + (f" and {len(unread) - 5} more." if unread[5:] else "."))
    return Arrays(x, None if y_name is None else read_array(tree, arrays[y_name], y_name), tuple(notes))


def pick_names(found: Collection[str]) -> tuple[str, str | None, list[str]]:
    """Which of the names is x, which y (None: none), and what is worth saying about that.

    Raises:
        DataError: ``missing_array``.

    Example:
        >>> pick_names(["images", "y"])
        ('images', 'y', ["The array 'images' was taken as x."])
    """
    x_name = next((name for name in ROW_NAMES if name in found), None)
    y_name = next((name for name in LABEL_NAMES if name in found), None)
    if x_name is None:
        raise DataError(
            f"it has no array x; it holds {', '.join(sorted(found)[:8]) or 'none'}",
            hint=SAVE_DATA_HINT,
            code="missing_array",
        )
    pairs = ((x_name, "x"), (y_name, "y"))
    return x_name, y_name, [f"The array {name!r} was taken as {to}." for name, to in pairs if name not in (None, to)]


def read_array(tree: Tree, member: str, name: str) -> np.ndarray:
    """One array; mapped where its bytes lie uncompressed.

    Raises:
        DataError: as :func:`named_arrays` has them.
    """
    try:
        start = tree.read(member, min(_MAX_HEADER_BYTES + 16, tree.sizes[member]))
        header = _header(start)
    except Exception as error:  # numpy's parser lets those of tokenize and ast through
        raise DataError(
            f"the array {name!r} has a malformed header ({error.__class__.__name__})", hint=SAVE_DATA_HINT,
            code="bad_npz",
        ) from None  # fmt: skip
    _check_header(name, header, tree.sizes[member])
    order: Any = "F" if header.fortran_order else "C"
    place = tree.place(member)
    if place is not None and header.data_bytes:
        path, offset = place
        return np.memmap(path, header.dtype, mode="r", offset=offset + header.size, shape=header.shape, order=order)
    if header.data_bytes > MAX_INFLATED_BYTES:
        raise DataError(
            f"the compressed array {name!r} would take {header.data_bytes} bytes of memory",
            hint="save it uncompressed with numpy.savez, or with fewer rows",
            code="npz_bomb",
        )
    return np.ndarray(header.shape, header.dtype, _inflate(tree, member, name, header), order=order)


def _inflate(tree: Tree, member: str, name: str, header: _Header) -> bytes:
    try:
        with tree.open(member) as stream:
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


def _check_header(name: str, header: _Header, size: int) -> None:
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
    absurd = len(header.shape) > _MOST_AXES or any(not 0 <= axis < _LONGEST_AXIS for axis in header.shape)
    if absurd or header.data_bytes != size - header.size:
        raise DataError(
            f"the array {name!r} claims the shape {list(header.shape)} of {header.dtype} "
            f"({header.data_bytes} bytes), the file holds {size - header.size}",
            hint="the file is damaged: save it again",
            code="bad_npz",
        )


def _cut(name: str, reason: str) -> DataError:
    return DataError(
        f"the array {name!r} cannot be read to its end ({reason})", hint="the file is damaged: upload it again",
        code="truncated_file",
    )  # fmt: skip
