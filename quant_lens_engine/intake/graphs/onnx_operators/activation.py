"""Activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS, Handler

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder


def _of(function: Callable[..., Any], **attributes: float | int | str) -> Handler:
    """A function of one tensor, then of the node's attributes in this order with their usual values."""

    def handle(builder: OnnxBuilder, call: Call) -> Any:
        settings = [call.attributes.get(name, usual) for name, usual in attributes.items()]
        return builder.assembly.call(function, builder.tensor(call, 0), *settings)

    return handle


for name, handler in {
    "Relu": _of(torch.relu),
    "LeakyRelu": _of(F.leaky_relu, alpha=0.01),
    "Elu": _of(F.elu, alpha=1.0),
    "Celu": _of(F.celu, alpha=1.0),
    "Sigmoid": _of(torch.sigmoid),
    "Tanh": _of(torch.tanh),
    "Softplus": _of(F.softplus),
    "Softsign": _of(F.softsign),
    "HardSwish": _of(F.hardswish),
    "Mish": _of(F.mish),
    "Softmax": _of(torch.softmax, axis=-1),
    "LogSoftmax": _of(torch.log_softmax, axis=-1),
}.items():
    OPERATORS.add(name, handler)


@OPERATORS.register("Gelu")
def gelu(builder: OnnxBuilder, call: Call) -> Any:
    """GELU (opset 20), exact or by tanh."""
    approximate = "tanh" if call.attributes.get("approximate", "none") == "tanh" else "none"
    return builder.assembly.call(F.gelu, builder.tensor(call, 0), approximate=approximate)


@OPERATORS.register("Selu")
def selu(builder: OnnxBuilder, call: Call) -> Any:
    """gamma · (x above zero, alpha · (eˣ − 1) below)."""
    alpha = call.attributes.get("alpha", 1.67326319217681884765625)
    gamma = call.attributes.get("gamma", 1.05070102214813232421875)
    return builder.assembly.call(torch.mul, builder.assembly.call(F.elu, builder.tensor(call, 0), alpha), gamma)


@OPERATORS.register("HardSigmoid")
def hard_sigmoid(builder: OnnxBuilder, call: Call) -> Any:
    """alpha · x + beta, held between 0 and 1."""
    alpha, beta = call.attributes.get("alpha", 0.2), call.attributes.get("beta", 0.5)
    straight = builder.assembly.call(torch.add, builder.assembly.call(torch.mul, builder.tensor(call, 0), alpha), beta)
    return builder.assembly.call(torch.clamp, straight, 0.0, 1.0)


@OPERATORS.register("ThresholdedRelu")
def thresholded_relu(builder: OnnxBuilder, call: Call) -> Any:
    """x above alpha, zero elsewhere."""
    return builder.assembly.call(F.threshold, builder.tensor(call, 0), call.attributes.get("alpha", 1.0), 0.0)


@OPERATORS.register("PRelu")
def prelu(builder: OnnxBuilder, call: Call) -> Any:
    """x above zero, slope · x below; the slope is broadcast."""
    value, slope = builder.tensor(call, 0), builder.tensor(call, 1)
    below = builder.assembly.call(torch.mul, slope, builder.assembly.call(torch.clamp, value, None, 0.0))
    return builder.assembly.call(torch.add, builder.assembly.call(torch.relu, value), below)


@OPERATORS.register("Clip")
def clip(builder: OnnxBuilder, call: Call) -> Any:
    """Held between two numbers, each of which may be missing."""
    low, high = (builder.floats(call, place) for place in (1, 2))
    if low is None and high is None:
        return builder.given(call, 0)
    ends = (low[0] if low else None, high[0] if high else None)
    if builder.whole(call, 0):
        ends = (None if ends[0] is None else int(ends[0]), None if ends[1] is None else int(ends[1]))
    return builder.assembly.call(torch.clamp, builder.tensor(call, 0), *ends)
