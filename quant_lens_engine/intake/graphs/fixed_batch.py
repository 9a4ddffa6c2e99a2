"""Graphs that were exported for one number of rows, opened for any.

Where a network was traced with an example of two rows, its views say ``(2, 400)``. The graph is run without values
(on the meta device) for its own number of rows and for another. Where a view is given a size that its input no longer
has, the axis of the rows in its input is the one that changed; a view keeps elements in their order, so the rows are
the leading part of the output's axis that has as many elements before it. That axis follows the input from then on.
Whether rows stand alone is then tried with the weights in place: what a row is answered must not depend on others.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from quant_lens_engine.intake.graphs.refusals import fixed_batch

OTHER_BATCH = 7
"""A number of rows that no other axis is likely to have; any would do, since axes are compared with themselves."""

_VIEWS = ("view", "reshape", "expand", "_unsafe_view")
_TRIED_ROWS = 3
_TOLERANCE = 1e-4


def open_batch(module: fx.GraphModule, row: Sequence[int | None], batch: int, *, whole_numbers: bool) -> None:
    """Let any number of rows through a graph that was made for ``batch``.

    Args:
        module: rewritten in place.
        row: sizes of one row; all must be known.
        batch: what the graph was made for.
        whole_numbers: the input is integers.

    Raises:
        CheckpointError: ``fixed_batch``.
    """
    if any(size is None for size in row):
        raise fixed_batch(batch, "sizes of its input vary", None)
    without_values = _Trial(module)
    before = without_values.run(_rows(batch, row, whole_numbers), batch)
    _Opening(module, before, batch).run(_rows(batch * OTHER_BATCH, row, whole_numbers), batch)
    module.recompile()


def check_rows_stand_alone(module: nn.Module, row: Sequence[int | None], *, whole_numbers: bool) -> None:
    """Refuse a graph whose answer to a row changes with the rows beside it.

    Raises:
        CheckpointError: ``fixed_batch``.
    """
    shape = [_TRIED_ROWS, *(size or 1 for size in row)]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 2, shape, generator=generator) if whole_numbers else torch.randn(shape, generator=generator)
    with torch.no_grad():
        together = module(rows)
        alone = torch.cat([module(rows[place : place + 1]) for place in range(_TRIED_ROWS)])
    if together.shape != alone.shape or not torch.allclose(together, alone, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise fixed_batch(None, "its answer to a row depends on the rows beside it", None)


def _rows(batch: int, row: Sequence[int | None], whole_numbers: bool) -> Tensor:
    return torch.zeros(batch, *(size or 1 for size in row), device="meta", dtype=torch.long if whole_numbers else None)


class _Trial(fx.Interpreter):
    """A run without values that keeps every node's shape."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run(self, rows: Tensor, batch: int) -> dict[fx.Node, tuple[int, ...]]:  # type: ignore[override]
        """Shapes by node."""
        self.batch = batch
        with torch.no_grad():
            super().run(rows)
        return self.shapes

    def run_node(self, n: fx.Node) -> Any:
        """One node; the error says which one it was."""
        try:
            value = super().run_node(n)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise fixed_batch(self.batch, str(error).partition("\n")[0][:200], n.name) from None
        if isinstance(value, Tensor):
            self.shapes[n] = tuple(value.shape)
        return value

    def fetch_attr(self, target: str) -> Any:
        """Parameters and buffers, without values."""
        value = super().fetch_attr(target)
        return value.to("meta") if isinstance(value, Tensor) else value

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A layer, without values."""
        module = self.fetch_attr(target)
        tensors = {
            name: tensor.to("meta") for name, tensor in (*module.named_parameters(), *module.named_buffers())
        }  # fmt: skip
        return torch.func.functional_call(module, tensors, args, kwargs)


class _Opening(_Trial):
    """The second run: rewrites each view before it runs.

    Besides shapes it keeps how many steps lie outside the rows on the axis where they are: in a tensor of
    (tokens × rows, width) that is the number of tokens, in one of (rows × tokens, width) it is 1.
    """

    def __init__(self, module: fx.GraphModule, before: dict[fx.Node, tuple[int, ...]], batch: int) -> None:
        super().__init__(module)
        self._before, self._batch = before, batch
        self._graph = module.graph
        self._outside: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Open it, run it, and note where the rows are."""
        self._open(n)
        value = super().run_node(n)
        was, now = self._before.get(n), self.shapes.get(n)
        if was is not None and now is not None and was != now:
            self._outside[n] = self._steps_outside(n, was, _changed(was, now))
        return value

    def _steps_outside(self, node: fx.Node, was: tuple[int, ...], axis: int) -> int:
        if was[axis] == self._batch:
            return 1
        sources = [source for source in node.all_input_nodes if source in self._outside]
        if not sources:
            return 1
        if _name_of(node) in _VIEWS:
            return max(1, self._elements_before(sources[0]) // math.prod(was[:axis]))
        return self._outside[sources[0]]

    def _elements_before(self, node: fx.Node) -> int:
        """How many elements stand outside the rows; a view changes nothing of it."""
        was = self._before[node]
        return math.prod(was[: _changed(was, self.shapes[node])]) * self._outside[node]

    def _open(self, node: fx.Node) -> None:
        name = _name_of(node)
        if name not in _VIEWS or not node.args or not isinstance(node.args[0], fx.Node):
            return
        source = node.args[0]
        was, now = self._before.get(source), self.shapes.get(source)
        sizes: Any = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], list | tuple) else node.args[1:]
        wanted = self._before.get(node)
        if was is None or now is None or wanted is None or was == now or not all(type(size) is int for size in sizes):
            return
        axis = _changed(was, now)
        if name == "expand":  # it keeps the axis of the rows where it is, counted from the last
            place: int | None = axis + len(sizes) - len(was)
        else:
            place = _moved(wanted, self._elements_before(source), self._batch)
        if place is None or (name == "expand" and sizes[place] == -1):
            return
        with self._graph.inserting_before(node):
            made = [self._graph.call_method("size", (source, axis))]
            if wanted[place] != was[axis]:
                made.append(self._graph.call_function(operator.mul, (made[-1], wanted[place])))
                made.append(self._graph.call_function(operator.floordiv, (made[-1], was[axis])))
        for new in made:  # this run began before they were there
            self.env[new] = super().run_node(new)
        opened = [made[-1] if at == place else size for at, size in enumerate(_written_out(sizes, wanted))]
        node.args = (source, tuple(opened))


def _written_out(sizes: Sequence[int], shape: tuple[int, ...]) -> list[int]:
    """The sizes that a view was given, without −1."""
    return [found if size == -1 else size for size, found in zip(sizes, shape, strict=True)]


def _moved(wanted: tuple[int, ...], elements_before: int, batch: int) -> int | None:
    """The axis of a view's output that the rows are on.

    One that is the rows and nothing else comes first. Where a batch of one could be on either side of a boundary, the
    last axis is left to the features.
    """
    found, passed = [], 1
    for place, size in enumerate(wanted):
        if elements_before % passed == 0 and (passed * size) % (elements_before * batch) == 0:
            if size == batch and passed == elements_before:
                return place
            found.append(place)
        passed *= size
    inner = [place for place in found if place < len(wanted) - 1]
    return (inner or found)[-1] if found else None


def _changed(was: tuple[int, ...], now: tuple[int, ...]) -> int:
    """The axis that grew with the rows."""
    return next(place for place, (first, second) in enumerate(zip(was, now, strict=True)) if first != second)


def _name_of(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target)
    if node.op != "call_function":
        return ""
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name).partition("::")[2]
    return str(getattr(target, "__name__", ""))
