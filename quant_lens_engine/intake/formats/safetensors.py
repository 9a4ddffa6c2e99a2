"""The safetensors format: a JSON header that says where each tensor lies, then the tensors.

The header is read here rather than by the library, whose reader accepts a duplicate key, a shape of 2^60 and three
hundred thousand empty tensors. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import FORMATS, CheckpointFormat
from quant_lens_engine.intake.formats.layout import MAX_TENSORS, Contents, StoredTensor, element_count
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.json_object import json_object

MAX_HEADER_BYTES = 100_000_000
_MAX_DIMENSION = 1 << 48

_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "BOOL": torch.bool, "C64": torch.complex64,
}  # fmt: skip


def _recognises(given: GivenFile) -> bool:
    head = given.head
    return head[8:9] == b"{" or (given.path.suffix == ".safetensors" and not head.startswith((b"PK", b"\x80")))


def _read(given: GivenFile) -> Contents:
    tensors, metadata = read_shard(given.path)
    notes = ("saved by " + metadata["format"],) if "format" in metadata else ()
    return Contents(tensors, notes=notes if notes != ("saved by pt",) else ())


def read_shard(
    path: Path, start: int = 0, size: int | None = None
) -> tuple[dict[str, StoredTensor], dict[str, str]]:  # fmt: skip
    """Every tensor's place in one safetensors file, and what its header says besides.

    Args:
        path: the file, or one that holds it as it is (a stored member of an archive).
        start: its first byte there.
        size: its bytes; None: all that there are.

    Raises:
        CheckpointError: ``bad_safetensors``, ``truncated_file``.
    """
    size = path.stat().st_size - start if size is None else size
    header, data_start = _header(path, start, size)
    metadata = header.pop("__metadata__", {})
    if len(header) > MAX_TENSORS:
        raise _broken(f"it lists {len(header)} tensors; at most {MAX_TENSORS} are read")
    tensors = {name: _stored(name, entry, start + data_start) for name, entry in header.items()}
    _check_cover(tensors, start + data_start, start + size)
    said = metadata.items() if isinstance(metadata, dict) else ()
    return tensors, {str(key): str(value) for key, value in said}


def _header(path: Path, start: int, size: int) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        file.seek(start)
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or length > min(MAX_HEADER_BYTES, size - 8):
            raise _broken(f"its header claims {length} bytes, the file has {size}", truncated=True)
        text = file.read(length)
    return parse_object(text, "its header"), 8 + length


def parse_object(text: bytes, what: str) -> dict[str, Any]:
    """A JSON object that names nothing twice.

    Raises:
        CheckpointError: ``bad_safetensors``: it is none.
    """
    return json_object(text, what, _broken)


def _stored(name: str, entry: Any, data_start: int) -> StoredTensor:
    try:
        dtype_name, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, first, last]
    except (KeyError, TypeError, ValueError):
        raise _broken(f"the entry of tensor {name!r} is malformed") from None
    if not all(type(number) is int and 0 <= number < _MAX_DIMENSION for number in numbers):
        raise _broken(f"tensor {name!r} claims the shape {str(shape)[:80]} at {first}–{last}")
    dtype = _DTYPES.get(dtype_name) if isinstance(dtype_name, str) else None
    if dtype is None:
        raise _broken(f"tensor {name!r} has the dtype {str(dtype_name)[:40]!r}, which is not read")
    if element_count(tuple(shape)) * dtype.itemsize != last - first:
        raise _broken(f"tensor {name!r} of shape {shape} and {dtype_name} does not fill its {last - first} bytes")
    return StoredTensor(tuple(shape), dtype, data_start + first, element_count(tuple(shape)))


def _check_cover(tensors: dict[str, StoredTensor], data_start: int, size: int) -> None:
    """Tensors lie side by side, without overlap or hole, to the last byte of the file."""
    position = data_start
    ordered = sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].count))
    for name, stored in ordered:
        if stored.offset != position:
            raise _broken(f"tensor {name!r} begins at byte {stored.offset} where {position} was due (overlap or hole)")
        position += stored.count * stored.dtype.itemsize
        if position > size:
            raise _broken(f"tensor {name!r} ends at byte {position}, the file at {size}", truncated=True)
    if position != size:
        raise _broken(f"{size - position} bytes follow the last tensor")


def _broken(reason: str, *, truncated: bool = False) -> CheckpointError:
    return CheckpointError(
        f"not a sound safetensors file: {reason}",
        hint="the file is cut off: upload it again" if truncated else "save it again with safetensors' save_file",
        code="truncated_file" if truncated else "bad_safetensors",
    )


FORMATS.add(
    "safetensors", CheckpointFormat(_recognises, _read, (".safetensors",), "safetensors: weights only, no code")
)
