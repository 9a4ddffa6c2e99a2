"""Convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import fx

from quant_lens_engine.intake.graphs import layers
from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS
from quant_lens_engine.intake.graphs.onnx_sizes import plain
from quant_lens_engine.intake.graphs.refusals import bad_graph, unsupported_operator

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder

_FUNCTIONS: dict[tuple[int, bool], Any] = {
    (1, False): F.conv1d, (2, False): F.conv2d, (3, False): F.conv3d,
    (1, True): F.conv_transpose1d, (2, True): F.conv_transpose2d, (3, True): F.conv_transpose3d,
}  # fmt: skip


def split_pads(pads: list[int], axes: int) -> tuple[tuple[int, ...] | None, list[int]]:
    """Pads of ONNX (all begins, then all ends) as equal ones, or None; and as ``F.pad`` takes them.

    Example:
        >>> split_pads([1, 2, 1, 2], 2), split_pads([0, 0, 1, 1], 2)
        (((1, 2), [2, 2, 1, 1]), (None, [0, 1, 0, 1]))
    """
    begins, ends = pads[:axes], pads[axes:]
    both = [size for pair in zip(begins[::-1], ends[::-1], strict=True) for size in pair]
    return (tuple(begins) if begins == ends else None), both


def pads_of(call: Call, kernel: tuple[int, ...], stride: list[int], dilation: list[int]) -> list[int]:
    """Begins and ends; ``SAME`` is worked out where it does not depend on the input's size."""
    axes = len(kernel)
    mode = call.attributes.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads: list[int] = call.attributes.get("pads", [0] * 2 * axes)
        if len(pads) != 2 * axes:
            raise bad_graph("pads of another number of axes", call.name)
        return pads
    if mode == "VALID":
        return [0] * 2 * axes
    if any(step != 1 for step in stride):
        raise unsupported_operator(f"{call.operator} with auto_pad {mode} and strides", call.name)
    whole = [(size - 1) * step for size, step in zip(kernel, dilation, strict=True)]
    small, large = [size // 2 for size in whole], [size - size // 2 for size in whole]
    return [*small, *large] if mode == "SAME_UPPER" else [*large, *small]


def _convolution(builder: OnnxBuilder, call: Call, *, transposed: bool) -> fx.Node:
    weight, bias = builder.weight(call, 1), builder.vector(call, 2)
    shape = builder.tensors.shape(weight) if weight is not None else ()
    sizes = builder.sizes(call, 1)
    axes = len(sizes) - 2
    if axes not in (1, 2, 3):
        raise unsupported_operator(f"{call.operator} over {axes} axes", call.name)
    kernel = tuple(call.attributes.get("kernel_shape", ())) or tuple(plain(size) for size in sizes[2:])
    stride, dilation = (call.attributes.get(name, [1] * axes) for name in ("strides", "dilations"))
    groups = call.attributes.get("group", 1)
    output_padding = call.attributes.get("output_padding", [0] * axes)
    if transposed and ("output_shape" in call.attributes or call.attributes.get("auto_pad", "NOTSET") != "NOTSET"):
        raise unsupported_operator("ConvTranspose with output_shape or auto_pad", call.name)
    padding, both = split_pads(pads_of(call, kernel, stride, dilation), axes)
    value = builder.tensor(call, 0)
    if padding is None:
        if transposed:
            raise unsupported_operator("ConvTranspose with pads that differ", call.name)
        value, padding = builder.assembly.call(F.pad, value, both), (0,) * axes
    has_bias = builder.given(call, 2) is not None
    zeros = builder.known(call, 2)
    if zeros is not None and zeros.dtype != object and not zeros.any():  # torch's exporter writes them for bias=False
        has_bias = False
    roles = {"weight": weight, "bias": bias}
    if weight is not None and not weight.turned and has_bias == (bias is not None) and shape[0] % groups == 0:
        path = builder.layer_path(call, roles)
        settings = (tuple(stride), padding, tuple(dilation), groups, tuple(output_padding))
        if builder.tensors.place(path, roles):
            made = builder.assembly.layer(
                path,
                ("convolution", has_bias, transposed, *settings),
                lambda: layers.convolution(
                    shape, bias=has_bias, stride=settings[0], padding=padding, dilation=settings[2], groups=groups,
                    transposed=transposed, output_padding=settings[4],
                ),
                value,
            )  # fmt: skip
            if made is not None:
                return made
    tensors = (value, builder.tensor(call, 1), builder.optional(call, 2) if has_bias else None)
    if transposed:
        return builder.assembly.call(
            _FUNCTIONS[axes, True], *tensors, tuple(stride), padding, tuple(output_padding), groups, tuple(dilation)
        )
    return builder.assembly.call(_FUNCTIONS[axes, False], *tensors, tuple(stride), padding, tuple(dilation), groups)


OPERATORS.add("Conv", lambda builder, call: _convolution(builder, call, transposed=False))
OPERATORS.add("ConvTranspose", lambda builder, call: _convolution(builder, call, transposed=True))
