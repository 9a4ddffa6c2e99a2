"""The tensors of an ONNX file: what each claims, checked against its bytes before an array is made.

https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.graphs.onnx_places import Place
from quant_lens_engine.intake.graphs.refusals import EXPORT_HINT, bad_graph

MAX_CONSTANT_BYTES = 256 << 20

ONNX_HINT = (
    "torch.onnx.export(model.eval(), (x,), 'model.onnx', opset_version=18, external_data=False, "
    "dynamic_shapes=({0: 'batch'},)); or bring any network as torch.export writes it: " + EXPORT_HINT
)
"""How to write a file that is read, in one line."""

_SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Bytes of one element, by the number of its type; others are not read."""
FLOATS = {1, 10, 11, 16}


@dataclass(frozen=True)
class Initializer:
    """A tensor of the file.

    Attributes:
        name: as the file has it.
        shape: its sizes.
        kind: ONNX's number of its type.
        place: where its elements lie in the file; None where they are packed in another way.
        proto: the library's record.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    place: Place | None
    proto: Any

    @property
    def floating(self) -> bool:
        """Whether its elements are floating-point numbers."""
        return self.kind in FLOATS

    def array(self) -> np.ndarray:
        """Its elements; floating-point ones as float32."""
        return array_of(self.proto)


def array_of(proto: Any) -> np.ndarray:
    """A tensor of the library as an array; floating-point ones as float32.

    Raises:
        CheckpointError: ``bad_graph``; ``external_data``.
    """
    from onnx import numpy_helper

    refuse_external([proto])
    checked = checked_tensor(proto, None)
    if checked.shape and int(np.prod(checked.shape, dtype=object)) * _SIZES[checked.kind] > MAX_CONSTANT_BYTES:
        raise bad_graph(f"the constant {proto.name[:80]!r} is too large")
    try:
        array = numpy_helper.to_array(proto)
    except (ValueError, TypeError, KeyError) as error:
        raise bad_graph(f"the tensor {proto.name[:80]!r} cannot be read ({error.__class__.__name__})") from None
    values: np.ndarray = array.astype(np.float32) if checked.floating else array
    return values


def refuse_external(tensors: list[Any]) -> None:
    """Refuse tensors that lie in other files.

    Raises:
        CheckpointError: ``external_data``.
    """
    for proto in tensors:
        if proto.data_location == 1 or proto.external_data:
            raise CheckpointError(
                f"its tensor {proto.name[:80]!r} lies in another file; only an ONNX file that holds everything is read",
                hint="export it as one file: torch.onnx.export(…, external_data=False); of a file alone: "
                "onnx.save_model(onnx.load('model.onnx'), 'whole.onnx', save_as_external_data=False); above 2 GB use "
                "torch.export",
                code="external_data",
                details={"tensor": proto.name[:200]},
            )


def checked_tensor(proto: Any, place: Place | None) -> Initializer:
    """A tensor whose claims its bytes bear out.

    Raises:
        CheckpointError: ``bad_graph``.
    """
    name, shape, kind = proto.name, tuple(int(size) for size in proto.dims), int(proto.data_type)
    size = _SIZES.get(kind)
    if size is None:
        raise bad_graph(f"the tensor {name[:80]!r} has the type {kind}, which is not read", hint=ONNX_HINT)
    count = 1
    for length in shape:
        if length < 0:
            raise bad_graph(f"the tensor {name[:80]!r} has the shape {list(shape)[:8]}", hint=ONNX_HINT)
        count *= length
    typed = len(proto.float_data) or len(proto.double_data) or len(proto.int32_data) or len(proto.int64_data)
    found = len(proto.raw_data) // size if proto.raw_data else typed or len(proto.uint64_data)
    if found != count or (proto.raw_data and len(proto.raw_data) != count * size):
        raise bad_graph(f"the tensor {name[:80]!r} of shape {list(shape)[:8]} has {found} elements", hint=ONNX_HINT)
    if place is not None and place.size != count * size:
        place = None
    return Initializer(name, shape, kind, place, proto)
