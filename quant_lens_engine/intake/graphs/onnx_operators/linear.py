"""Matrix products; with a matrix of the file they are linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from quant_lens_engine.intake.graphs import layers
from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder
    from quant_lens_engine.intake.graphs.onnx_placement import Stored


def _linear(builder: OnnxBuilder, call: Call, weight: Stored, bias: Stored | None, value: fx.Node) -> fx.Node | None:
    """A layer for a weight that stands as ``(out, in)``."""
    roles = {"weight": weight, "bias": bias}
    path = builder.layer_path(call, roles)
    shape = builder.tensors.shape(weight)
    if not builder.tensors.place(path, roles):
        return None
    kind = ("linear", bias is not None)
    return builder.assembly.layer(path, kind, lambda: layers.linear(shape, bias=bias is not None), value)


def _turned(stored: Stored) -> Stored:
    return type(stored)(stored.name, not stored.turned)


@OPERATORS.register("MatMul")
def matrix_product(builder: OnnxBuilder, call: Call) -> Any:
    """A product; a bias that is added right behind it belongs to the layer."""
    weight = builder.weight(call, 1)
    if (
        weight is not None
        and len(builder.tensors.shape(weight)) == 2
        and not isinstance(builder.given(call, 0), type(weight))
    ):
        outwards = _turned(weight)  # ONNX has (in, out)
        follower = builder.only_reader(call.outputs[0])
        bias = _bias_of(builder, call, follower, builder.tensors.shape(outwards)[0])
        made = _linear(builder, call, outwards, bias, builder.tensor(call, 0))
        if made is not None:
            if bias is not None and follower is not None:
                builder.absorb(follower, made)
            return made
    return builder.assembly.call(torch.matmul, builder.tensor(call, 0), builder.tensor(call, 1))


def _bias_of(builder: OnnxBuilder, call: Call, follower: Call | None, width: int) -> Stored | None:
    if follower is None or follower.operator != "Add":
        return None
    place = 1 if follower.inputs[0] == call.outputs[0] else 0
    if follower.inputs[place] not in builder.graph.initializers:
        return None
    bias = builder.vector(follower, place)
    return bias if bias is not None and builder.tensors.shape(bias) == (width,) else None


@OPERATORS.register("Gemm")
def general_product(builder: OnnxBuilder, call: Call) -> Any:
    """alpha · A B + beta · C, with A or B transposed."""
    alpha, beta = call.attributes.get("alpha", 1.0), call.attributes.get("beta", 1.0)
    turns = [bool(call.attributes.get(name, 0)) for name in ("transA", "transB")]
    weight, bias = builder.weight(call, 1), builder.vector(call, 2)
    has_bias = builder.given(call, 2) is not None
    if weight is not None and alpha == 1.0 and (beta == 1.0 or not has_bias) and not turns[0]:
        outwards = weight if turns[1] else _turned(weight)
        if has_bias == (bias is not None) and (
            bias is None or builder.tensors.shape(bias) == builder.tensors.shape(outwards)[:1]
        ):
            made = _linear(builder, call, outwards, bias, builder.tensor(call, 0))
            if made is not None:
                return made
    first, second = (builder.tensor(call, place) for place in (0, 1))
    first, second = (
        builder.assembly.method("t", node) if turned else node
        for node, turned in zip((first, second), turns, strict=True)
    )
    if not has_bias:
        product = builder.assembly.call(torch.matmul, first, second)
        return product if alpha == 1.0 else builder.assembly.call(torch.mul, product, alpha)
    return builder.assembly.call(torch.addmm, builder.tensor(call, 2), first, second, alpha=alpha, beta=beta)


@OPERATORS.register("Einsum")
def einsum(builder: OnnxBuilder, call: Call) -> Any:
    """A sum of products by an equation."""
    operands = [builder.tensor(call, place) for place in range(len(call.inputs))]
    return builder.assembly.call(torch.einsum, call.attributes["equation"], *operands)
