"""Constants, types and ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS
from quant_lens_engine.intake.graphs.onnx_sizes import check_elements, plain
from quant_lens_engine.intake.graphs.refusals import bad_graph, unsupported_operator

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder

_WHOLE = {2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool"}
_FLOATING = (1, 10, 11, 16)


@OPERATORS.register("Constant")
def constant(builder: OnnxBuilder, call: Call) -> Any:  # noqa: ARG001  (one signature)
    """A tensor, or numbers, that stand in the node."""
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64),
                       ("value_ints", np.int64)):  # fmt: skip
        if name in call.attributes:
            return np.asarray(call.attributes[name], dtype=kind)
    if "value" not in call.attributes:
        raise unsupported_operator("Constant", call.name)
    return call.attributes["value"]


@OPERATORS.register("ConstantOfShape")
def constant_of_shape(builder: OnnxBuilder, call: Call) -> Any:
    """One number everywhere; float zero where none is given."""
    value = np.asarray(call.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)
    shape = builder.known(call, 0)
    if shape is not None and shape.dtype != object and value.dtype.kind in "iub":
        check_elements(list(shape))
        return np.full(tuple(int(size) for size in shape), value[0])
    sizes = builder.numbers(call, 0) or []
    dtype = builder.assembly.dtype() if value.dtype.kind == "f" else torch.from_numpy(value).dtype
    filling = value[0].item()
    return builder.assembly.call(torch.full, tuple(sizes), filling, dtype=dtype, device=builder.assembly.device())


@OPERATORS.register("Cast")
def cast(builder: OnnxBuilder, call: Call) -> Any:
    """Another type; every floating-point one is the network's own."""
    return _as_kind(builder, call, int(call.attributes["to"]))


@OPERATORS.register("CastLike")
def cast_like(builder: OnnxBuilder, call: Call) -> Any:
    """The type of another tensor."""
    value = builder.given(call, 1)
    kind = builder.graph.kinds.get(call.inputs[1])
    if isinstance(value, np.ndarray):
        kind = 1 if value.dtype.kind == "f" else 9 if value.dtype.kind == "b" else 7
    if kind is None:
        return builder.assembly.method("type_as", builder.tensor(call, 0), builder.tensor(call, 1))
    return _as_kind(builder, call, kind)


def _as_kind(builder: OnnxBuilder, call: Call, kind: int) -> Any:
    known = builder.known(call, 0)
    if kind in _FLOATING:
        if known is not None and known.dtype != object:
            return known.astype(np.float32)
        return builder.assembly.method("to", builder.tensor(call, 0), builder.assembly.dtype())
    name = _WHOLE.get(kind)
    if name is None:
        raise unsupported_operator(f"{call.operator} to the type {kind}", call.name)
    if known is not None:
        return known if known.dtype == object else known.astype(name)
    return builder.assembly.method("to", builder.tensor(call, 0), getattr(torch, name))


@OPERATORS.register("Range")
def numbers_in_order(builder: OnnxBuilder, call: Call) -> Any:
    """Numbers from a first one, below a limit, in steps."""
    known = [builder.known(call, place) for place in range(3)]
    if all(value is not None and value.dtype != object for value in known):
        first, limit, step = (value.reshape(-1)[0] for value in known if value is not None)
        if step == 0:
            raise bad_graph("a range without end", call.name)
        check_elements([max(0, -(-(limit - first) // step))])
        return np.arange(first, limit, step)
    ends = [builder.numbers(call, place) for place in range(3)]
    return builder.assembly.call(torch.arange, *(end[0] for end in ends if end), device=builder.assembly.device())


@OPERATORS.register("Identity")
def identity(builder: OnnxBuilder, call: Call) -> Any:
    """Its input."""
    return builder.given(call, 0)


@OPERATORS.register("Dropout")
def dropout(builder: OnnxBuilder, call: Call) -> Any:
    """Its input: the network is in evaluation mode."""
    return builder.given(call, 0)


@OPERATORS.register("EyeLike")
def eye_like(builder: OnnxBuilder, call: Call) -> Any:
    """Ones on a diagonal, in the shape of a matrix."""
    rows, columns = (plain(size) for size in builder.sizes(call, 0))
    if call.attributes.get("k", 0):
        raise unsupported_operator("EyeLike with k", call.name)
    kind = call.attributes.get("dtype", builder.graph.kinds.get(call.inputs[0], 1))
    dtype = builder.assembly.dtype() if kind in _FLOATING else getattr(torch, _WHOLE.get(kind, "int64"))
    return builder.assembly.call(torch.eye, rows, columns, dtype=dtype, device=builder.assembly.device())
