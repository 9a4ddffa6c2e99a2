"""Normalisations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from quant_lens_engine.intake.graphs import layers
from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS
from quant_lens_engine.intake.graphs.refusals import unsupported_operator

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder

_STATISTICS = ("running_mean", "running_var")


@OPERATORS.register("BatchNormalization")
def batch_normalization(builder: OnnxBuilder, call: Call) -> Any:
    """With running statistics; what was exported in training mode is evaluated with them as well."""
    roles = {role: builder.vector(call, place) for place, role in enumerate(("weight", "bias", *_STATISTICS), 1)}
    eps = call.attributes.get("epsilon", 1e-5)
    momentum = 1.0 - call.attributes.get("momentum", 0.9)
    rank = builder.rank(call, 0)
    value = builder.tensor(call, 0)
    first = roles["weight"]
    if rank in (2, 3, 4, 5) and first is not None and all(stored is not None for stored in roles.values()):
        path = builder.layer_path(call, roles)
        features = builder.tensors.shape(first)[0]
        if builder.tensors.place(path, roles, _STATISTICS):
            made = builder.assembly.layer(
                path, ("batch norm", rank, eps),
                lambda: layers.batch_norm(features, rank, affine=True, eps=eps, momentum=momentum), value,
            )  # fmt: skip
            if made is not None:
                return made
    weight, bias = builder.tensor(call, 1), builder.tensor(call, 2)
    mean, variance = (builder.assembly.method("detach", builder.tensor(call, place)) for place in (3, 4))
    return builder.assembly.call(F.batch_norm, value, mean, variance, weight, bias, False, momentum, eps)


@OPERATORS.register("LayerNormalization")
def layer_normalization(builder: OnnxBuilder, call: Call) -> Any:
    """Over the last axes."""
    if len(call.outputs) > 1 and any(name in builder.readers for name in call.outputs[1:]):
        raise unsupported_operator("LayerNormalization with its statistics", call.name)
    weight, bias = builder.weight(call, 1), builder.weight(call, 2)
    axis, eps = call.attributes.get("axis", -1), call.attributes.get("epsilon", 1e-5)
    value, rank = builder.tensor(call, 0), builder.rank(call, 0)
    has_bias = builder.given(call, 2) is not None
    axes = -axis if axis < 0 else None if rank is None else rank - axis
    if weight is not None and has_bias == (bias is not None) and axes == len(builder.tensors.shape(weight)):
        shape = builder.tensors.shape(weight)
        path = builder.layer_path(call, {"weight": weight, "bias": bias})
        if (bias is None or builder.tensors.shape(bias) == shape) and builder.tensors.place(
            path, {"weight": weight, "bias": bias}
        ):
            made = builder.assembly.layer(
                path, ("layer norm", has_bias, eps, *shape),
                lambda: layers.layer_norm(shape, bias=has_bias, eps=eps), value,
            )  # fmt: skip
            if made is not None:
                return made
    if axes is None:
        raise unsupported_operator("LayerNormalization over an unknown number of axes", call.name)
    sizes = tuple(range(-axes, 0))
    centred = builder.assembly.call(torch.sub, value, builder.assembly.call(torch.mean, value, sizes, True))
    variance = builder.assembly.call(torch.mean, builder.assembly.call(torch.square, centred), sizes, True)
    scale = builder.assembly.call(torch.rsqrt, builder.assembly.call(torch.add, variance, eps))
    answer = builder.assembly.call(torch.mul, builder.assembly.call(torch.mul, centred, scale), builder.tensor(call, 1))
    return builder.assembly.call(torch.add, answer, builder.tensor(call, 2)) if has_bias else answer


@OPERATORS.register("InstanceNormalization")
def instance_normalization(builder: OnnxBuilder, call: Call) -> Any:
    """Each channel of each row by its own mean and variance."""
    value, weight, bias = (builder.tensor(call, place) for place in range(3))
    eps = call.attributes.get("epsilon", 1e-5)
    return builder.assembly.call(F.instance_norm, value, None, None, weight, bias, True, 0.0, eps)


@OPERATORS.register("GroupNormalization")
def group_normalization(builder: OnnxBuilder, call: Call) -> Any:
    """Groups of channels; up to opset 20 scale and bias are one number a group."""
    value, groups = builder.tensor(call, 0), call.attributes["num_groups"]
    eps = call.attributes.get("epsilon", 1e-5)
    plain = builder.assembly.call(F.group_norm, value, groups, None, None, eps)
    rows = builder.assembly.method("size", value, 0)
    parts = builder.assembly.call(torch.reshape, plain, (rows, groups, -1))
    scale, bias = (builder.assembly.call(torch.reshape, builder.tensor(call, at), (1, groups, 1)) for at in (1, 2))
    scaled = builder.assembly.call(torch.add, builder.assembly.call(torch.mul, parts, scale), bias)
    return builder.assembly.method("reshape_as", scaled, value)


@OPERATORS.register("LpNormalization")
def lp_normalization(builder: OnnxBuilder, call: Call) -> Any:
    """Along an axis, to length one."""
    axis, order = call.attributes.get("axis", -1), call.attributes.get("p", 2)
    value = builder.tensor(call, 0)
    length = builder.assembly.call(torch.linalg.vector_norm, value, order, (axis,), True)
    return builder.assembly.call(torch.div, value, length)


@OPERATORS.register("LRN")
def local_response(builder: OnnxBuilder, call: Call) -> Any:
    """Local response normalisation over channels."""
    size = call.attributes["size"]
    if size % 2 == 0:
        raise unsupported_operator("LRN with an even size", call.name)
    settings = [call.attributes.get(name, usual) for name, usual in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))]
    assert all(math.isfinite(number) for number in settings)
    return builder.assembly.call(F.local_response_norm, builder.tensor(call, 0), size, *settings)
