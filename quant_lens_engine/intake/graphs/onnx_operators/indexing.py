"""Looking up, choosing, masking."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from quant_lens_engine.intake.graphs import layers
from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS
from quant_lens_engine.intake.graphs.onnx_sizes import check_elements
from quant_lens_engine.intake.graphs.refusals import bad_graph, unsupported_operator

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder


@OPERATORS.register("Gather")
def gather(builder: OnnxBuilder, call: Call) -> Any:
    """Slices at indices along an axis; rows of a matrix of the file are an embedding."""
    axis = call.attributes.get("axis", 0)
    values, indices = builder.known(call, 0), builder.known(call, 1)
    if values is not None and indices is not None and indices.dtype != object:
        check_elements([indices.size, values.size // max(1, values.shape[axis] if values.ndim else 1)])
        try:
            return np.asarray(np.take(values, indices.astype(np.int64), axis), dtype=values.dtype)
        except (IndexError, ValueError):
            raise bad_graph("an index outside its tensor", call.name) from None
    if indices is not None and indices.dtype != object and indices.ndim == 0:
        return builder.assembly.call(torch.select, builder.tensor(call, 0), axis, int(indices))
    stored = builder.weight(call, 0)
    if (
        stored is not None
        and not stored.turned
        and axis == 0
        and len(builder.tensors.shape(stored)) == 2
        and indices is None
    ):
        path = builder.layer_path(call, {"weight": stored})
        shape = builder.tensors.shape(stored)
        if builder.tensors.place(path, {"weight": stored}):
            made = builder.assembly.layer(
                path, ("embedding",), lambda: layers.embedding(shape), builder.tensor(call, 1)
            )  # fmt: skip
            if made is not None:
                return made
    source, places = builder.tensor(call, 0), builder.tensor(call, 1)
    rank = len(builder.sizes(call, 0))
    before: list[Any] = [slice(None)] * (axis % rank)
    return builder.assembly.call(operator.getitem, source, (*before, places))


@OPERATORS.register("GatherElements")
def gather_elements(builder: OnnxBuilder, call: Call) -> Any:
    """One element for each index."""
    axis = call.attributes.get("axis", 0)
    return builder.assembly.call(torch.take_along_dim, builder.tensor(call, 0), builder.tensor(call, 1), axis)


@OPERATORS.register("GatherND")
def gather_nd(builder: OnnxBuilder, call: Call) -> Any:
    """What lies at places that are written along the last axis; only behind no batch axes."""
    if call.attributes.get("batch_dims", 0):
        raise unsupported_operator("GatherND behind batch axes", call.name)
    along = builder.assembly.call(torch.unbind, builder.tensor(call, 1), -1)  # a tuple: an index for each axis
    return builder.assembly.call(operator.getitem, builder.tensor(call, 0), along)


@OPERATORS.register("Trilu")
def triangle(builder: OnnxBuilder, call: Call) -> Any:
    """The upper triangle of matrices, or the lower."""
    diagonal = builder.numbers(call, 1)
    upper = call.attributes.get("upper", 1)
    known = builder.known(call, 0)
    offset = 0 if not diagonal else diagonal[0]
    if known is not None and known.dtype != object and type(offset) is int:
        return (np.triu if upper else np.tril)(known, offset)
    return builder.assembly.call(torch.triu if upper else torch.tril, builder.tensor(call, 0), offset)


@OPERATORS.register("CumSum")
def running_sum(builder: OnnxBuilder, call: Call) -> Any:
    """Sums of everything up to here."""
    if call.attributes.get("exclusive", 0) or call.attributes.get("reverse", 0):
        raise unsupported_operator("CumSum, exclusive or reverse", call.name)
    axes = builder.numbers(call, 1) or [0]
    return builder.assembly.call(torch.cumsum, builder.tensor(call, 0), axes[0])


@OPERATORS.register("TopK")
def largest(builder: OnnxBuilder, call: Call) -> Any:
    """The largest or smallest k along an axis, and where they are."""
    count = (builder.numbers(call, 1) or [1])[0]
    found = builder.assembly.call(
        torch.topk, builder.tensor(call, 0), count, call.attributes.get("axis", -1),
        bool(call.attributes.get("largest", 1)), bool(call.attributes.get("sorted", 1)),
    )  # fmt: skip
    return tuple(builder.assembly.call(operator.getitem, found, place) for place in (0, 1))
