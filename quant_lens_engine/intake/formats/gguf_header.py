"""The header of a GGUF file, read with limits: what it says of the model, and where each tensor lies.

It is read here rather than by the library, whose reader maps the file and believes its counts.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats.layout import MAX_TENSORS, element_count

MAX_KEYS = 10_000
MAX_ENTRIES = 4_000_000
"""Of all arrays together: a vocabulary with scores and merges has about a million."""
_MAX_KEY_BYTES = 65_535
_MAX_NAME_BYTES = 256
_MAX_AXES = 4
_MAX_DIMENSION = 1 << 40
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_BLOCKS = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "BF16": (30, 1, 2),
    "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34),
    "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
}  # fmt: skip
"""Types that are read: number in the file, elements of a block, bytes of a block."""
_NAMES = {number: name for name, (number, _, _) in _BLOCKS.items()}


@dataclass(frozen=True)
class PlacedTensor:
    """One tensor of the file.

    Attributes:
        shape: its sizes, rows first (the file has them the other way round).
        kind: how its elements are stored, such as ``Q4_K``.
        offset: byte in the file.
        size: bytes.
    """

    shape: tuple[int, ...]
    kind: str
    offset: int
    size: int


@dataclass(frozen=True)
class GgufHeader:
    """What stands before the tensors: scalar values and texts by key (arrays are passed over), and the tensors."""

    values: Mapping[str, Any]
    tensors: Mapping[str, PlacedTensor]


def read_header(path: Path) -> GgufHeader:
    """Read and check the header against the file's real size.

    Raises:
        CheckpointError: ``bad_gguf``; ``truncated_file``; ``unsupported_format``: another version or type of tensor.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file, size)
        reader.take(4)
        version = reader.number("<I")
        if version not in (2, 3):
            raise CheckpointError(
                f"a GGUF file of version {version}; 2 and 3 (little-endian) are read",
                hint="write it again with a current llama.cpp",
                code="unsupported_format",
            )
        tensor_count, key_count = reader.number("<Q"), reader.number("<Q")
        if tensor_count > MAX_TENSORS or key_count > MAX_KEYS:
            raise bad_gguf(f"it claims {tensor_count} tensors and {key_count} keys")
        values = _values(reader, key_count)
        found = _tensor_entries(reader, tensor_count)
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or isinstance(alignment, bool) or not 0 < alignment <= 1 << 20:
            raise bad_gguf(f"its alignment is {str(alignment)[:40]}")
        start = -(-file.tell() // alignment) * alignment
    return GgufHeader(values, _placed(found, start, alignment, size))


def bad_gguf(reason: str, *, truncated: bool = False) -> CheckpointError:
    """What is wrong with the file."""
    return CheckpointError(
        f"not a sound GGUF file: {reason}",
        hint="the file is cut off: upload it again" if truncated else "write it again, or bring the float checkpoint",
        code="truncated_file" if truncated else "bad_gguf",
    )


class _Reader:
    """Numbers and texts one after the other; never beyond the end of the file."""

    def __init__(self, file: BufferedReader, size: int) -> None:
        self._file, self._size = file, size
        self._entries = 0

    def take(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise bad_gguf("its header goes beyond the end of the file", truncated=True)
        return self._file.read(count)

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, most: int) -> str:
        length = self.number("<Q")
        if length > most:
            raise bad_gguf(f"a text of {length} bytes where at most {most} are meant")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise bad_gguf("a text in its header is not UTF-8") from None

    def value(self, kind: int) -> Any:
        """A scalar or a text; None for an array, which is passed over."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text(self._size)
        if kind != _ARRAY:
            raise bad_gguf(f"a value of the unknown type {kind}")
        inner, count = self.number("<I"), self.number("<Q")
        self._entries += count
        if self._entries > MAX_ENTRIES:
            raise bad_gguf(f"its arrays have more than {MAX_ENTRIES} entries")
        if inner in _SCALARS:
            self.take(count * struct.calcsize(_SCALARS[inner]))
        elif inner == _STRING:
            for _ in range(count):
                self.take(self.number("<Q"))
        else:
            raise bad_gguf(f"an array of values of the type {inner}")
        return None


def _values(reader: _Reader, count: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for _ in range(count):
        key = reader.text(_MAX_KEY_BYTES)
        if key in values:
            raise bad_gguf(f"it has the key {key[:80]!r} twice")
        values[key] = reader.value(reader.number("<I"))
    return {key: value for key, value in values.items() if value is not None}


def _tensor_entries(reader: _Reader, count: int) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Shape, type and offset of each tensor, as the file has them."""
    found: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for _ in range(count):
        name, axes = reader.text(_MAX_NAME_BYTES), reader.number("<I")
        if name in found:
            raise bad_gguf(f"it names the tensor {name[:80]!r} twice")
        if axes > _MAX_AXES:
            raise bad_gguf(f"the tensor {name[:80]!r} has {axes} axes")
        shape = tuple(reader.number("<Q") for _ in range(axes))
        if any(axis > _MAX_DIMENSION for axis in shape):
            raise bad_gguf(f"the tensor {name[:80]!r} claims the shape {list(shape)}")
        found[name] = (shape[::-1], reader.number("<I"), reader.number("<Q"))
    return found


def _placed(
    found: Mapping[str, tuple[tuple[int, ...], int, int]], start: int, alignment: int, size: int
) -> dict[str, PlacedTensor]:  # fmt: skip
    placed: dict[str, PlacedTensor] = {}
    for name, (shape, number, offset) in found.items():
        if number not in _NAMES:
            raise CheckpointError(
                f"the tensor {name[:80]!r} is stored as type {number}, which is not read",
                hint=f"read are {', '.join(_BLOCKS)}; or bring the float checkpoint",
                code="unsupported_format",
            )
        kind = _NAMES[number]
        _, elements, block_bytes = _BLOCKS[kind]
        if element_count(shape) % elements or (elements > 1 and (not shape or shape[-1] % elements)):
            raise bad_gguf(f"the tensor {name[:80]!r} of shape {list(shape)} is no whole number of {kind} blocks")
        length = element_count(shape) // elements * block_bytes
        if offset % alignment or start + offset + length > size:
            truncated = offset % alignment == 0
            raise bad_gguf(f"the tensor {name[:80]!r} lies at byte {start + offset} of {size}", truncated=truncated)
        placed[name] = PlacedTensor(shape, kind, start + offset, length)
    end = start
    for name, tensor in sorted(placed.items(), key=lambda item: (item[1].offset, item[1].size)):
        if tensor.offset < end:
            raise bad_gguf(f"the tensor {name[:80]!r} overlaps another")
        end = tensor.offset + tensor.size
    return placed
