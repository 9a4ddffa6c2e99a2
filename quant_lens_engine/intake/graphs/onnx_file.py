"""An ONNX file as records: parsed by the onnx library, every claim checked before a tensor is made.

https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.graphs.answers import Answer, measured_output
from quant_lens_engine.intake.graphs.onnx_places import find_places
from quant_lens_engine.intake.graphs.onnx_tensors import (
    FLOATS,
    ONNX_HINT,
    Initializer,
    array_of,
    checked_tensor,
    refuse_external,
)
from quant_lens_engine.intake.graphs.refusals import bad_graph, unsupported_operator

OPSETS = range(13, 21)
MAX_TENSORS = 30_000
_NAME_THEM = "name the outputs: torch.onnx.export(…, output_names=['features', 'logits'])"
_LARGE = 1 << 16
"""Elements of an initialiser that is not copied for the inference of shapes."""


@dataclass(frozen=True)
class Call:
    """One node.

    Attributes:
        operator: its name.
        name: of the node, or of its first output where it has none.
        inputs: names of values; an empty one is not given.
        outputs: likewise.
        attributes: numbers, text, lists of them; a tensor as an array.
        scope: path of the module that called it, where the exporter has noted it.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    scope: str = ""


@dataclass(frozen=True)
class OnnxGraph:
    """One file.

    Attributes:
        calls: in the order in which they run.
        initializers: by name.
        inputs: names and sizes of what the caller gives; a size that varies is None.
        whole_numbers: names of inputs that are integers.
        outputs: names of what is answered.
        ranks: how many axes a value has, where that is known.
        kinds: ONNX's numbers of the types of values, likewise.
        opset: version of the operators.
    """

    calls: tuple[Call, ...]
    initializers: Mapping[str, Initializer]
    inputs: Mapping[str, tuple[int | None, ...]]
    whole_numbers: frozenset[str]
    outputs: tuple[str, ...]
    ranks: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)
    opset: int = OPSETS[-1]

    @cached_property
    def answer(self) -> Answer:
        """Which of the outputs is measured.

        Raises:
            CheckpointError: ``bad_output``.
        """
        return measured_output(self.outputs, _NAME_THEM)


def read_onnx(content: bytes) -> OnnxGraph:
    """The graph of an ONNX file.

    Raises:
        CheckpointError: ``bad_graph``; ``external_data``; ``unsupported_version``; ``unsupported_operator``.
    """
    import onnx  # 0.14 s of processor time on top of torch's (three fresh processes), and few files need it
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(content)
    except (DecodeError, RecursionError, ValueError) as error:
        raise bad_graph(f"it is no ONNX file ({error.__class__.__name__})", hint=ONNX_HINT) from None
    try:
        return _graph(model, content)
    except (TypeError, ValueError, AttributeError, KeyError) as error:  # text that is none, a field of another kind
        raise bad_graph(f"a field is malformed ({error.__class__.__name__})", hint=ONNX_HINT) from None


def _graph(model: Any, content: bytes) -> OnnxGraph:
    graph = model.graph
    _check_names(graph)
    opset = _opset(model)
    if model.functions or graph.sparse_initializer:
        raise unsupported_operator("a function of the file's own" if model.functions else "a sparse tensor", graph.name)
    refuse_external([*graph.initializer, *(a.t for n in graph.node for a in n.attribute), *_tensor_lists(graph)])
    places = find_places(content)
    if len(places) != len(graph.initializer):
        raise bad_graph("its tensors are not where they should be", hint=ONNX_HINT)
    if len(places) > MAX_TENSORS:
        raise bad_graph(f"it lists {len(places)} tensors; at most {MAX_TENSORS} are read", hint=ONNX_HINT)
    initializers: dict[str, Initializer] = {}
    for proto, place in zip(graph.initializer, places, strict=True):
        if proto.name in initializers:
            raise bad_graph(f"two tensors are called {proto.name[:80]!r}", hint=ONNX_HINT)
        initializers[proto.name] = checked_tensor(proto, place)
    inputs = [value for value in graph.input if value.name not in initializers]
    ranks, kinds = _inferred(model, initializers)
    return OnnxGraph(
        calls=tuple(_call(node) for node in graph.node),
        initializers=initializers,
        inputs={value.name: _sizes(value) for value in inputs},
        whole_numbers=frozenset(value.name for value in inputs if value.type.tensor_type.elem_type not in FLOATS),
        outputs=tuple(value.name for value in graph.output),
        ranks=ranks,
        kinds=kinds,
        opset=opset,
    )


def _check_names(graph: Any) -> None:
    """What is no UTF-8 the library gives as bytes."""
    names = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("a name is no text")


def _opset(model: Any) -> int:
    versions = {entry.domain: int(entry.version) for entry in model.opset_import}
    found = versions.get("", versions.get("ai.onnx", 0))
    if found not in OPSETS:
        raise CheckpointError(
            f"its operators are of opset {found}; opsets {OPSETS[0]} to {OPSETS[-1]} are read", hint=ONNX_HINT,
            code="unsupported_version",
        )  # fmt: skip
    return found


def _tensor_lists(graph: Any) -> list[Any]:
    return [tensor for node in graph.node for attribute in node.attribute for tensor in attribute.tensors]


def _call(node: Any) -> Call:
    name = str(node.name or next(iter(node.output), "") or node.op_type)
    operator = str(node.op_type)
    if node.domain not in ("", "ai.onnx"):
        raise unsupported_operator(f"{node.domain}::{operator}", name, ONNX_HINT)
    return Call(
        operator, name, tuple(node.input), tuple(node.output),
        {attribute.name: _attribute(attribute, operator, name) for attribute in node.attribute}, _scope(node),
    )  # fmt: skip


def _attribute(attribute: Any, operator: str, node: str) -> Any:
    kind = int(attribute.type)
    if kind == 1:
        return float(str(np.float32(attribute.f)))  # 1e-5 as it was written, not the float32 nearest to it
    if kind == 2:
        return int(attribute.i)
    if kind == 3:
        return attribute.s.decode("utf-8", "replace")
    if kind == 4:
        return array_of(attribute.t)
    if kind == 6:
        return [float(value) for value in attribute.floats]
    if kind == 7:
        return [int(value) for value in attribute.ints]
    if kind == 8:
        return [value.decode("utf-8", "replace") for value in attribute.strings]
    raise unsupported_operator(operator, node, ONNX_HINT)


def _scope(node: Any) -> str:
    """What torch's exporters note: paths as text, or the path as the node's name (``/blocks.0/up/MatMul``)."""
    for entry in getattr(node, "metadata_props", ()):
        if entry.key == "pkg.torch.onnx.name_scopes":
            parts = [part.strip().strip("'\"") for part in entry.value.strip("[]").split(",")]
            return parts[-2] if len(parts) > 1 else ""
    segments = node.name.split("/")[1:-1] if node.name.startswith("/") else []
    path = ""
    for segment in segments:  # a container that is called repeats its name: /features/features.0/Conv
        own = path.rpartition(".")[2]
        repeated = own and segment.startswith(f"{own}.")
        path = f"{path}{segment[len(own) :]}" if repeated else f"{path}.{segment}".strip(".")
    return path


def _sizes(value: Any) -> tuple[int | None, ...]:
    return tuple(
        int(size.dim_value) if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim
    )


def _inferred(model: Any, initializers: Mapping[str, Initializer]) -> tuple[dict[str, int], dict[str, int]]:
    """Ranks and types of values, as far as the library can tell; large tensors need not be there for it."""
    import onnx

    light = onnx.ModelProto()
    _copy_lightly(light, model, initializers)
    try:
        light = onnx.shape_inference.infer_shapes(light)  # without data: a claimed size would be filled with it
    except Exception:  # whatever the library has against the file: the operators will say it better
        light = model
    values = [*light.graph.input, *light.graph.value_info, *light.graph.output]
    types = {value.name: value.type.tensor_type for value in values}
    ranks = {name: len(found.shape.dim) for name, found in types.items() if found.HasField("shape")}
    kinds = {name: int(found.elem_type) for name, found in types.items()}
    ranks |= {name: len(found.shape) for name, found in initializers.items()}
    return ranks, kinds | {name: found.kind for name, found in initializers.items()}


def _copy_lightly(light: Any, model: Any, initializers: Mapping[str, Initializer]) -> None:
    import onnx

    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.input.extend(value for value in model.graph.input if value.name not in initializers)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    for proto in model.graph.initializer:
        if len(proto.raw_data) < _LARGE and len(proto.float_data) < _LARGE:
            graph.initializer.append(proto)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(proto.name, proto.data_type, list(proto.dims)))
