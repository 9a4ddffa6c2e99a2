"""Single-file ONNX, opset 13 to 20: a network of CNNs, transformers and MLPs, turned into a differentiable module."""

from __future__ import annotations

import math

import torch

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import FORMATS, CheckpointFormat
from quant_lens_engine.intake.formats.layout import Contents, StoredTensor
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.graphs.onnx_file import read_onnx
from quant_lens_engine.intake.graphs.onnx_network import network_of
from quant_lens_engine.intake.graphs.onnx_tensors import Initializer
from quant_lens_engine.intake.graphs.refusals import EXPORT_HINT, bad_graph

MAX_BYTES = 2**31 - 1
"""What a protobuf message can have; larger models keep their tensors in other files, which are not read."""

_FOLDED = (
    "Exporters to ONNX fold batch normalisation into convolutions: if the network had any, its curvature is that of "
    "the folded parameters, and not the one of the network in training."
)
_KINDS = {1: torch.float32, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}
_SECOND_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"
"""Tags of what follows ModelProto.ir_version: producer, domain, version, text, graph, operators."""


def _recognises(given: GivenFile) -> bool:
    """A protobuf has no magic: the version of the format comes first, then another field of a model."""
    head = given.head
    if len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 0x20 and head[2] in _SECOND_FIELDS and any(head[3:8]):
        return True
    return given.path.suffix == ".onnx" and not head.startswith((b"PK", b"\x80"))


def _read(given: GivenFile) -> Contents:
    size = given.path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(
            f"an ONNX file of {size} bytes; at most {MAX_BYTES} can be one message", hint=EXPORT_HINT, code="bad_graph"
        )
    graph = read_onnx(given.path.read_bytes())
    network, placement = network_of(graph)
    tensors = {
        name: _stored(graph.initializers[file], turned) for name, (file, turned) in placement.tensors.items()
    }  # fmt: skip
    notes = [network.sentence]
    if graph.answer.note:
        notes.append(graph.answer.note)
    if not any(call.operator == "BatchNormalization" for call in graph.calls) and any(
        call.operator == "Conv" for call in graph.calls
    ):
        notes.append(_FOLDED)
    return Contents(tensors, notes=tuple(notes), network=network)


def _stored(found: Initializer, turned: bool) -> StoredTensor:
    if found.place is None:
        raise bad_graph(f"the numbers of the tensor {found.name[:80]!r} are packed in a way that is not read")
    dtype = _KINDS[found.kind]
    if not turned:
        return StoredTensor(found.shape, dtype, found.place.offset, math.prod(found.shape))
    rows, columns = found.shape
    return StoredTensor((columns, rows), dtype, found.place.offset, rows * columns, 0, (1, columns))


FORMATS.add("onnx", CheckpointFormat(_recognises, _read, (".onnx",), "ONNX in one file, opset 13 to 20"))
