"""Reductions along axes; up to opset 17 axes may be attributes, from 18 on they are an input."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS, Handler

if TYPE_CHECKING:
    from torch import fx

    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder

Reduce = Callable[["OnnxBuilder", "fx.Node", "tuple[int, ...]", bool], Any]


def _axes(builder: OnnxBuilder, call: Call) -> tuple[int, ...] | None:
    """The axes; all of them where none is given; None where nothing is to be done."""
    axes = call.attributes.get("axes")
    if axes is None:
        axes = builder.numbers(call, 1)
    if axes:
        return tuple(axes)
    if call.attributes.get("noop_with_empty_axes", 0):
        return None
    return tuple(range(len(builder.sizes(call, 0))))


def _reduction(reduce: Reduce, known: Callable[..., Any] | None = None) -> Handler:
    def handle(builder: OnnxBuilder, call: Call) -> Any:
        axes, keeps = _axes(builder, call), bool(call.attributes.get("keepdims", 1))
        if axes is None:
            return builder.given(call, 0)
        value = builder.known(call, 0)
        if value is not None and known is not None:
            return np.asarray(known(value, axis=axes, keepdims=keeps), dtype=value.dtype)
        return reduce(builder, builder.tensor(call, 0), axes, keeps)

    return handle


def _plain(function: Callable[..., Any]) -> Reduce:
    return lambda builder, node, axes, keeps: builder.assembly.call(function, node, axes, keeps)


def _length(order: int) -> Reduce:
    return lambda builder, node, axes, keeps: builder.assembly.call(
        torch.linalg.vector_norm, node, order, axes, keeps
    )  # fmt: skip


def _sum_of(function: Callable[..., Any]) -> Reduce:
    return lambda builder, node, axes, keeps: builder.assembly.call(
        torch.sum, builder.assembly.call(function, node), axes, keeps
    )


def _product(builder: OnnxBuilder, node: fx.Node, axes: tuple[int, ...], keeps: bool) -> Any:
    """One axis after the other, the last first: those before it keep their places."""
    for axis in sorted(axes, reverse=axes[0] >= 0):
        node = builder.assembly.call(torch.prod, node, axis, keeps)
    return node


def _log_sum(builder: OnnxBuilder, node: fx.Node, axes: tuple[int, ...], keeps: bool) -> Any:
    return builder.assembly.call(torch.log, builder.assembly.call(torch.sum, node, axes, keeps))


for name, reduce, known in (
    ("ReduceMean", _plain(torch.mean), None),
    ("ReduceSum", _plain(torch.sum), np.sum),
    ("ReduceMax", _plain(torch.amax), np.max),
    ("ReduceMin", _plain(torch.amin), np.min),
    ("ReduceProd", None, np.prod),
    ("ReduceL1", _length(1), None),
    ("ReduceL2", _length(2), None),
    ("ReduceSumSquare", _sum_of(torch.square), None),
    ("ReduceLogSum", _log_sum, None),
    ("ReduceLogSumExp", _plain(torch.logsumexp), None),
):
    OPERATORS.add(name, _reduction(_product if reduce is None else reduce, known))


def _place_of(function: Callable[..., Any]) -> Handler:
    def handle(builder: OnnxBuilder, call: Call) -> Any:
        axis, keeps = call.attributes.get("axis", 0), bool(call.attributes.get("keepdims", 1))
        return builder.assembly.call(function, builder.tensor(call, 0), axis, keeps)

    return handle


OPERATORS.add("ArgMax", _place_of(torch.argmax))
OPERATORS.add("ArgMin", _place_of(torch.argmin))
