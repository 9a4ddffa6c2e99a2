"""safetensors whose header lies."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from tests.security.bad_inputs import bad_file

NAME = "model.safetensors"
BAD = "bad_safetensors"


def _write(path: Path, header: dict | bytes, body: bytes = b"", length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)


def _entry(shape: list[int], first: int, last: int) -> dict:
    return {"dtype": "F32", "shape": shape, "data_offsets": [first, last]}


@bad_file(24, "safetensors header of 1 TB", "truncated_file", BAD, filename=NAME)
def huge_header(path: Path, canary: Path) -> None:
    _write(path, {"a": _entry([1], 0, 4)}, bytes(4), length=1 << 40)


@bad_file(25, "overlapping tensors", BAD, filename=NAME)
def overlap(path: Path, canary: Path) -> None:
    _write(path, {"a": _entry([2], 0, 8), "b": _entry([2], 4, 12)}, bytes(12))


@bad_file(26, "hole between tensors", BAD, filename=NAME)
def hole(path: Path, canary: Path) -> None:
    _write(path, {"a": _entry([1], 0, 4), "b": _entry([1], 8, 12)}, bytes(12))


@bad_file(27, "tensor outside of the file", "truncated_file", BAD, filename=NAME)
def out_of_bounds(path: Path, canary: Path) -> None:
    _write(path, {"a": _entry([100], 0, 400)}, bytes(8))


@bad_file(28, "shape and bytes differ", BAD, filename=NAME)
def shape_mismatch(path: Path, canary: Path) -> None:
    _write(path, {"a": _entry([3], 0, 8)}, bytes(8))


@bad_file(29, "size that overflows", BAD, filename=NAME)
def overflow(path: Path, canary: Path) -> None:
    _write(path, {"a": _entry([1 << 62, 4], 0, 0)})


@bad_file(30, "trailing bytes", BAD, filename=NAME)
def trailing(path: Path, canary: Path) -> None:
    _write(path, {"a": _entry([1], 0, 4)}, bytes(9))


@bad_file(31, "duplicate key", BAD, filename=NAME)
def duplicate_key(path: Path, canary: Path) -> None:
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    _write(path, f'{{"a":{entry},"a":{entry}}}'.encode(), bytes(4))


@bad_file(32, "300 000 tensors", BAD, filename=NAME)
def many(path: Path, canary: Path) -> None:
    _write(path, {str(index): _entry([0], 0, 0) for index in range(300_000)})


@bad_file(33, "shape [2⁶⁰, 0]", BAD, filename=NAME)
def huge_and_empty(path: Path, canary: Path) -> None:
    _write(path, {"a": _entry([1 << 60, 0], 0, 0)})
