"""Integers that are known while a graph is put together, sizes of tensors included: shape arithmetic in numpy.

What an exporter writes for ``x.view(x.shape[0], -1)`` is a chain of Shape, Gather, Concat. Known integers are numpy
arrays; where a size is known only when the network runs, the array holds a :class:`Size`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import fx

from quant_lens_engine.intake.graphs.refusals import bad_graph


class Size:
    """A size of a tensor, or a number computed from sizes: an integer of the running network, zero or more."""

    def __init__(self, node: fx.Node) -> None:
        self.node = node

    def _with(self, function: Callable[[Any, Any], Any], other: Any, *, turned: bool = False) -> Size:
        graph = self.node.graph
        second = other.node if isinstance(other, Size) else int(other)
        pair = (second, self.node) if turned else (self.node, second)
        return Size(graph.call_function(function, pair))

    def __add__(self, other: Any) -> Any:
        return self if not isinstance(other, Size) and other == 0 else self._with(operator.add, other)

    def __sub__(self, other: Any) -> Any:
        return self if not isinstance(other, Size) and other == 0 else self._with(operator.sub, other)

    def __rsub__(self, other: Any) -> Any:
        return self._with(operator.sub, other, turned=True)

    def __mul__(self, other: Any) -> Any:
        return self if not isinstance(other, Size) and other == 1 else self._with(operator.mul, other)

    def __floordiv__(self, other: Any) -> Any:
        return self if not isinstance(other, Size) and other == 1 else self._with(operator.floordiv, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._with(operator.floordiv, other, turned=True)

    def __mod__(self, other: Any) -> Any:
        return self._with(operator.mod, other)

    def __neg__(self) -> Any:
        return self._with(operator.mul, -1)

    __radd__, __rmul__ = __add__, __mul__

    def equals(self, other: Any) -> bool:
        """Whether it is that number, where this can be said: a size is never negative."""
        if isinstance(other, Size):
            if other.node is self.node:
                return True
        elif other < 0:
            return False
        raise bad_graph("its path depends on a size that varies")


MAX_ELEMENTS = 1 << 22
"""Of an array that is worked out while a graph is put together: masks and positions have thousands."""


def check_elements(*shapes: Sequence[Any]) -> None:
    """Refuse to work out an array of that shape (of several: broadcast), before it is made.

    Raises:
        CheckpointError: ``bad_graph``.
    """
    try:
        shape = np.broadcast_shapes(*shapes) if len(shapes) > 1 else tuple(int(size) for size in shapes[0])
    except ValueError:
        raise bad_graph("its shape arithmetic does not go together") from None
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise bad_graph(f"a constant of the shape {list(shape)[:8]} is too large")


def known_sizes(values: Any) -> np.ndarray:
    """An array of integers and sizes.

    Example:
        >>> known_sizes([1, 2]).dtype.kind
        'i'
    """
    if any(isinstance(value, Size) for value in values):
        array = np.empty(len(values), dtype=object)
        array[:] = list(values)
        return array
    return np.asarray(values, dtype=np.int64)


def plain(value: Any) -> Any:
    """An element as an argument of a function: an integer, or the node that computes it."""
    return value.node if isinstance(value, Size) else int(value)


def combined(function: Callable[[Any, Any], Any], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``function`` of two known arrays, element by element, broadcast."""
    check_elements(first.shape, second.shape)
    if first.dtype != object and second.dtype != object:
        return np.asarray(function(first, second))
    answer = np.frompyfunc(function, 2, 1)(first.astype(object), second.astype(object))
    return np.asarray(answer, dtype=object)
