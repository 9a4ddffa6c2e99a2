"""Arithmetic, comparisons and logic; on integers that are known, done at once."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS, Handler
from quant_lens_engine.intake.graphs.onnx_sizes import Size, check_elements, combined
from quant_lens_engine.intake.graphs.refusals import bad_graph

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder


def _equal(first: Any, second: Any) -> Any:
    if isinstance(first, Size):
        return first.equals(second)
    return second.equals(first) if isinstance(second, Size) else first == second


def _binary(function: Callable[..., Any], known: Callable[[Any, Any], Any] | None = None) -> Handler:
    def handle(builder: OnnxBuilder, call: Call) -> Any:
        first, second = builder.known(call, 0), builder.known(call, 1)
        if first is not None and second is not None and known is not None:
            try:
                return combined(known, first, second)
            except (TypeError, ValueError, ZeroDivisionError):
                raise bad_graph("its shape arithmetic does not go together", call.name) from None
        return builder.assembly.call(function, builder.tensor(call, 0), builder.tensor(call, 1))

    return handle


def _unary(function: Callable[..., Any], known: Callable[[Any], Any] | None = None) -> Handler:
    def handle(builder: OnnxBuilder, call: Call) -> Any:
        value = builder.known(call, 0)
        if value is not None and known is not None and value.dtype != object:
            return np.asarray(known(value), dtype=value.dtype)
        return builder.assembly.call(function, builder.tensor(call, 0))

    return handle


def _several(function: Callable[..., Any], known: Callable[[Any, Any], Any]) -> Handler:
    def handle(builder: OnnxBuilder, call: Call) -> Any:
        found = [builder.known(call, place) for place in range(len(call.inputs))]
        values = [value for value in found if value is not None and value.dtype != object]
        if len(values) == len(found):
            answer = values[0]
            for value in values[1:]:
                answer = combined(known, answer, value)
            return answer
        node = builder.tensor(call, 0)
        for place in range(1, len(call.inputs)):
            node = builder.assembly.call(function, node, builder.tensor(call, place))
        return node

    return handle


for name, function, known in (
    ("Add", torch.add, operator.add),
    ("Sub", torch.sub, operator.sub),
    ("Mul", torch.mul, operator.mul),
    ("Equal", torch.eq, np.frompyfunc(_equal, 2, 1)),
    ("Less", torch.lt, None),
    ("LessOrEqual", torch.le, None),
    ("Greater", torch.gt, None),
    ("GreaterOrEqual", torch.ge, None),
    ("And", torch.logical_and, None),
    ("Or", torch.logical_or, None),
    ("Xor", torch.logical_xor, None),
):
    OPERATORS.add(name, _binary(function, known))

for name, alone, folded in (
    ("Neg", torch.neg, np.negative),
    ("Abs", torch.abs, np.abs),
    ("Not", torch.logical_not, np.logical_not),
    ("Sqrt", torch.sqrt, np.sqrt),
    ("Reciprocal", torch.reciprocal, np.reciprocal),
    ("Floor", torch.floor, np.floor),
    ("Ceil", torch.ceil, np.ceil),
    ("Exp", torch.exp, None),
    ("Log", torch.log, None),
    ("Erf", torch.erf, None),
    ("Sin", torch.sin, None),
    ("Cos", torch.cos, None),
    ("Tan", torch.tan, None),
    ("Asin", torch.asin, None),
    ("Acos", torch.acos, None),
    ("Atan", torch.atan, None),
    ("Sinh", torch.sinh, None),
    ("Cosh", torch.cosh, None),
    ("Asinh", torch.asinh, None),
    ("Acosh", torch.acosh, None),
    ("Atanh", torch.atanh, None),
    ("Round", torch.round, None),
    ("Sign", torch.sign, None),
    ("IsNaN", torch.isnan, None),
    ("IsInf", torch.isinf, None),
):
    OPERATORS.add(name, _unary(alone, folded))

OPERATORS.add("Max", _several(torch.maximum, np.maximum))
OPERATORS.add("Min", _several(torch.minimum, np.minimum))
OPERATORS.add("Sum", _several(torch.add, np.add))


@OPERATORS.register("Mean")
def mean(builder: OnnxBuilder, call: Call) -> Any:
    """The mean of several tensors."""
    total = _several(torch.add, np.add)(builder, call)
    return builder.assembly.call(torch.div, builder.as_tensor(total), len(call.inputs))


@OPERATORS.register("Div")
def divide(builder: OnnxBuilder, call: Call) -> Any:
    """Division; of integers towards zero."""
    first, second = builder.known(call, 0), builder.known(call, 1)
    whole = builder.whole(call, 0) and builder.whole(call, 1)
    if first is not None and second is not None:
        try:
            if whole:
                return combined(operator.floordiv, first, second)  # sizes are not negative
            check_elements(first.shape, second.shape)
            return np.asarray(first / second)
        except (TypeError, ZeroDivisionError):
            raise bad_graph("its shape arithmetic does not go together", call.name) from None
    options = {"rounding_mode": "trunc"} if whole else {}
    return builder.assembly.call(torch.div, builder.tensor(call, 0), builder.tensor(call, 1), **options)


@OPERATORS.register("Mod")
def modulo(builder: OnnxBuilder, call: Call) -> Any:
    """The remainder: with the divisor's sign, or with ``fmod`` the dividend's."""
    first, second = builder.known(call, 0), builder.known(call, 1)
    if first is not None and second is not None and not call.attributes.get("fmod", 0):
        return combined(operator.mod, first, second)
    function = torch.fmod if call.attributes.get("fmod", 0) else torch.remainder
    return builder.assembly.call(function, builder.tensor(call, 0), builder.tensor(call, 1))


@OPERATORS.register("Pow")
def power(builder: OnnxBuilder, call: Call) -> Any:
    """A power; a single exponent is taken as a number, whose derivatives exist at zero too."""
    exponent = None
    if builder.given(call, 1) is not None and builder.graph.ranks.get(call.inputs[1], 0) == 0:
        try:
            numbers = builder.floats(call, 1)
            exponent = numbers[0] if numbers and len(numbers) == 1 else None
        except Exception:
            exponent = None
    second = builder.tensor(call, 1) if exponent is None else exponent
    if isinstance(second, float) and second.is_integer():
        second = int(second)
    return builder.assembly.call(torch.pow, builder.tensor(call, 0), second)


@OPERATORS.register("Where")
def where(builder: OnnxBuilder, call: Call) -> Any:
    """Elements of the second input where the first is true, else of the third."""
    values = [builder.known(call, place) for place in range(3)]
    condition, first, second = values
    if condition is not None and first is not None and second is not None:
        check_elements(condition.shape, first.shape, second.shape)
        return np.where(condition.astype(bool), first, second)
    return builder.assembly.call(torch.where, *(builder.tensor(call, place) for place in range(3)))
