"""Where the tensors of an ONNX file lie in it: the library gives values, a checkpoint needs places.

Only the frame of the protobuf wire format is read: ModelProto.graph (7), GraphProto.initializer (5), and of a
TensorProto raw_data (9), float_data (4) and double_data (10), whose packed form has the bytes of the numbers.
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quant_lens_engine.intake.graphs.refusals import bad_graph

_GRAPH, _INITIALIZER = 7, 5
_DATA = (9, 4, 10)


@dataclass(frozen=True)
class Place:
    """Bytes of a file: where they begin, and how many they are."""

    offset: int
    size: int


def find_places(content: bytes) -> list[Place | None]:
    """A place for each initialiser in the file's order; None where its numbers are not laid out as such.

    Raises:
        CheckpointError: ``bad_graph``.
    """
    view = memoryview(content)
    found: list[Place | None] = []
    for number, graph in _fields(view, Place(0, len(content))):
        if number == _GRAPH:
            found += [
                _data_of(view, tensor) for field, tensor in _fields(view, graph) if field == _INITIALIZER
            ]  # fmt: skip
    return found


def _data_of(view: memoryview, tensor: Place) -> Place | None:
    data = [place for number, place in _fields(view, tensor) if number in _DATA and place.size]
    return data[0] if len(data) == 1 else None


def _fields(view: memoryview, inside: Place) -> Iterator[tuple[int, Place]]:
    """Number and place of every field that has a length."""
    position, end = inside.offset, inside.offset + inside.size
    while position < end:
        key, position = _varint(view, position, end)
        kind = key & 7
        if kind == 0:
            _, position = _varint(view, position, end)
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        elif kind == 2:
            size, position = _varint(view, position, end)
            if size > end - position:
                raise bad_graph("a field reaches beyond its message")
            yield key >> 3, Place(position, size)
            position += size
        else:
            raise bad_graph(f"a field of the wire type {kind}")


def _varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise bad_graph("a number is cut off")
