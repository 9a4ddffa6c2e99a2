"""Pooling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS
from quant_lens_engine.intake.graphs.onnx_operators.convolution import pads_of, split_pads
from quant_lens_engine.intake.graphs.refusals import unsupported_operator

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder

_LARGEST: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _settings(call: Call) -> Any:
    """Kernel, stride, dilation, equal pads or None, pads as ``F.pad`` takes them."""
    kernel = tuple(call.attributes["kernel_shape"])
    axes = len(kernel)
    if axes not in _LARGEST:
        raise unsupported_operator(f"{call.operator} over {axes} axes", call.name)
    stride, dilation = (call.attributes.get(name, [1] * axes) for name in ("strides", "dilations"))
    padding, both = split_pads(pads_of(call, kernel, stride, dilation), axes)
    if padding is not None and any(2 * size > length for size, length in zip(padding, kernel, strict=True)):
        padding = None  # more than torch's pooling takes
    return kernel, tuple(stride), tuple(dilation), padding, both


@OPERATORS.register("MaxPool")
def largest(builder: OnnxBuilder, call: Call) -> Any:
    """The largest of each window."""
    if len(call.outputs) > 1 or call.attributes.get("storage_order", 0):
        raise unsupported_operator("MaxPool with indices", call.name)
    kernel, stride, dilation, padding, both = _settings(call)
    value = builder.tensor(call, 0)
    if padding is None:
        value, padding = builder.assembly.call(F.pad, value, both, "constant", -math.inf), (0,) * len(kernel)
    whole_windows = bool(call.attributes.get("ceil_mode", 0))
    return builder.assembly.call(_LARGEST[len(kernel)], value, kernel, stride, padding, dilation, whole_windows)


@OPERATORS.register("AveragePool")
def average(builder: OnnxBuilder, call: Call) -> Any:
    """The mean of each window, with or without the pads."""
    kernel, stride, dilation, padding, both = _settings(call)
    if any(step != 1 for step in dilation):
        raise unsupported_operator("AveragePool with dilations", call.name)
    value = builder.tensor(call, 0)
    counts_pads = bool(call.attributes.get("count_include_pad", 0))
    if padding is None:
        if not counts_pads:
            raise unsupported_operator("AveragePool with pads that differ and are not counted", call.name)
        value, padding = builder.assembly.call(F.pad, value, both), (0,) * len(kernel)
    ceil = bool(call.attributes.get("ceil_mode", 0))
    return builder.assembly.call(_AVERAGE[len(kernel)], value, kernel, stride, padding, ceil, counts_pads)


def _over_all(function: Any) -> Any:
    def handle(builder: OnnxBuilder, call: Call) -> Any:
        rank = builder.rank(call, 0)
        if rank is None:
            raise unsupported_operator(f"{call.operator} over an unknown number of axes", call.name)
        return builder.assembly.call(function, builder.tensor(call, 0), tuple(range(2, rank)), True)

    return handle


OPERATORS.add("GlobalAveragePool", _over_all(torch.mean))
OPERATORS.add("GlobalMaxPool", _over_all(torch.amax))
