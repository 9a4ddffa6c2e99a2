"""Linear layers as core ATen writes them, put together again: x Wᵀ + b is one call, and W and b are its own.

``run_decompositions`` makes ``addmm(b, x, permute(W))`` of them; where the input is not contiguous, as behind every
attention, ``bmm(expand(x), expand(permute(W)))`` and an addition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from quant_lens_engine.intake.graphs.aten_operators import split_target
from quant_lens_engine.intake.graphs.aten_records import Operation, Program, Reference, names_made, names_read

_LINEAR = "torch.ops.aten.linear.default"
_REPEATS = {"expand", "view", "_unsafe_view", "reshape"}
_TRANSPOSES = {"permute", "transpose", "t"}
_LONGEST_CHAIN = 4
"""Views between a weight and its product; a file may hold a circle of them."""
_PRODUCTS = {f"torch.ops.aten.{name}.default" for name in ("mm", "bmm")}


def with_linears(program: Program, shapes: Mapping[str, Sequence[int]]) -> Program:
    """The same graph, in which products with the transpose of a tensor of the checkpoint are ``aten.linear``.

    Args:
        program: the graph.
        shapes: of the checkpoint's tensors, by its own names.
    """
    if not _is_plain(program):
        return program
    graph = _Graph(program, shapes)
    changed: dict[str, Operation | None] = {}
    for found in program.operations:
        if found.target == "torch.ops.aten.addmm.default":
            changed |= _with_bias(graph, found)
        elif found.target in _PRODUCTS and found.arguments.keys() == {"self", "mat2"}:
            changed |= _without_bias(graph, found)
    if not changed:
        return program
    kept = (changed.get(found.name, found) for found in program.operations)
    return replace(program, operations=_read_ones([found for found in kept if found is not None], program))


def _is_plain(program: Program) -> bool:
    """Whether each name stands for one value and each node has a name of its own, and nothing is written in place.

    Else what a name stands for depends on where it is read, which is not followed here; files come from strangers.
    """
    made = [result for found in program.operations for result in names_made(found.results)]
    values = [*made, *program.tensors, *program.inputs, *program.constants]
    nodes = [found.name for found in program.operations]
    in_place = any(_name(found).endswith("_") and not _name(found).startswith("__") for found in program.operations)
    return not in_place and len({*values}) == len(values) and len({*nodes}) == len(nodes)


def _with_bias(graph: _Graph, product: Operation) -> Mapping[str, Operation]:
    """``addmm``, as what takes its place."""
    given = product.arguments
    weight = graph.weight(given.get("mat2"))
    if weight is None or given.keys() != {"self", "mat1", "mat2"} or not graph.is_bias(given["self"], weight):
        return {}
    return {product.name: _as_linear(product, input=given["mat1"], weight=weight, bias=given["self"])}


def _without_bias(graph: _Graph, product: Operation) -> Mapping[str, Operation | None]:
    """``mm`` or ``bmm``, as what takes its place, and that of an addition of the bias behind it (None: nothing)."""
    weight = graph.weight(product.arguments.get("mat2"))
    if weight is None:
        return {}
    given = {"input": product.arguments["self"], "weight": weight}
    view = graph.only_reader(product)
    if view is not None and view.arguments.get("self") != Reference(str(product.results[0])):
        view = None  # it reads the product as a size
    added = graph.only_reader(view) if view is not None and _name(view) in _REPEATS else None
    bias = graph.added_bias(added, view, weight) if view is not None and added is not None else None
    if view is None or added is None or bias is None:
        return {product.name: _as_linear(product, **given)}
    return {
        product.name: _as_linear(product, **given, bias=bias),
        view.name: replace(view, results=added.results),
        added.name: None,
    }


def _as_linear(product: Operation, **arguments: Any) -> Operation:
    return replace(product, target=_LINEAR, arguments=arguments)


def _read_ones(operations: list[Operation], program: Program) -> tuple[Operation, ...]:
    """Without the views of weights that nobody reads any more."""
    read = set(names_read(list(program.outputs)))
    kept = []
    for found in reversed(operations):
        results = {result for result in found.results if isinstance(result, str)}
        if results & read or _name(found) not in _REPEATS | _TRANSPOSES:
            kept.append(found)
            read |= set(names_read(list(found.arguments.values())))
    return tuple(reversed(kept))


class _Graph:
    """Who makes and who reads each value of a program."""

    def __init__(self, program: Program, shapes: Mapping[str, Sequence[int]]) -> None:
        self._tensors, self._shapes = program.tensors, shapes
        self._makers: dict[str, Operation] = {}
        self._readers: dict[str, list[Operation]] = {}
        for found in program.operations:
            self._makers |= {result: found for result in found.results if isinstance(result, str)}
            for name in set(names_read(list(found.arguments.values()))):
                self._readers.setdefault(name, []).append(found)
        self._answers = set(names_read(list(program.outputs)))

    def weight(self, argument: Any) -> Reference | None:
        """W ``(out, in)`` of the checkpoint, where the argument is Wᵀ, or each matrix of it is."""
        sizes: list[Any] = []
        while (found := self._maker(argument)) is not None and _name(found) in _REPEATS:
            if len(sizes) == _LONGEST_CHAIN:
                return None
            sizes.append(found.arguments.get("size", found.arguments.get("shape")))
            argument = found.arguments.get("self")
        if found is None or not _is_transpose(found):
            return None
        weight = found.arguments.get("self")
        turned = [*reversed(self._shape(weight))]
        if not isinstance(weight, Reference) or len(turned) != 2:
            return None
        return weight if all(isinstance(size, list) and size[-2:] == turned for size in sizes) else None

    def is_bias(self, argument: Any, weight: Reference) -> bool:
        """Whether the argument is a tensor ``(out,)`` of the checkpoint."""
        return self._shape(argument) == self._shape(weight)[:1]

    def only_reader(self, operation: Operation) -> Operation | None:
        """What reads the operation's one answer, where nothing else does."""
        (result, *more) = operation.results or (None,)
        readers = self._readers.get(result, []) if isinstance(result, str) and not more else []
        return readers[0] if len(readers) == 1 and result not in self._answers else None

    def added_bias(self, added: Operation, view: Operation, weight: Reference) -> Reference | None:
        """The tensor ``(out,)`` of the checkpoint that an addition adds to rows ``(…, out)``."""
        if split_target(added.target) != ("add", "Tensor") or not {"self", "other"} >= added.arguments.keys():
            return None
        others = [value for value in added.arguments.values() if value != Reference(str(view.results[0]))]
        size = view.arguments.get("size")
        if len(others) != 1 or not self.is_bias(others[0], weight) or not isinstance(size, list):
            return None
        return others[0] if tuple(size[-1:]) == self._shape(weight)[:1] else None

    def _maker(self, argument: Any) -> Operation | None:
        return self._makers.get(argument.name) if isinstance(argument, Reference) else None

    def _shape(self, argument: Any) -> tuple[int, ...]:
        """Of a tensor of the checkpoint; nothing of any other."""
        name = self._tensors.get(argument.name) if isinstance(argument, Reference) else None
        return () if name is None else tuple(self._shapes[name])


def _is_transpose(found: Operation) -> bool:
    if _name(found) == "permute":
        return found.arguments.get("dims") in ([1, 0], [-1, -2])
    if _name(found) == "transpose":
        return [found.arguments.get("dim0"), found.arguments.get("dim1")] in ([0, 1], [1, 0], [-1, -2], [-2, -1])
    return _name(found) == "t"


def _name(found: Operation) -> str:
    return (split_target(found.target) or ("", ""))[0]
