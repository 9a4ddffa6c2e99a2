"""What is known at one point of a TorchScript graph: values by name, and the arithmetic on those that are numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.graphs.aten_records import Operation, Reference
from quant_lens_engine.intake.graphs.refusals import EXPORT_HINT
from quant_lens_engine.intake.graphs.script_values import ARITHMETIC, Several, Sizes


class ScriptState:
    """Values, and the operations that make them.

    Attributes:
        operations: what has been read, in order.
        tensors: the tensors that the graph reads, by their path in the script.
        ranks: of values, where they are known.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.tensors: dict[str, Tensor] = {}
        self.ranks: dict[str, int] = {}
        self._values: dict[str, Any] = {}
        self._numbers: set[str] = set()
        self._fractions: set[str] = set()

    def _given(self, node: Any, place: int) -> Any:
        return self._values[node.inputsAt(place).debugName()]

    def _all(self, node: Any) -> list[Any]:
        return [self._values[found.debugName()] for found in node.inputs()]

    def _keep(self, node: Any, value: Any) -> None:
        self._values[node.output().debugName()] = value

    def _item(self, value: Any, place: int, node: Any) -> Any:
        if isinstance(value, list | tuple):
            return value[place]
        if isinstance(value, Sizes):
            return self._size(value.of, place)
        if isinstance(value, Several) and place >= 0:
            return self._one_of(value, place)
        raise no_graph("a member of something that is no list", node)

    def _one_of(self, several: Several, place: int) -> Reference:
        """One tensor of an operator's list: the operation learns the name."""
        at = next(at for at, found in enumerate(self.operations) if found.name == several.name)
        found = self.operations[at]
        known = found.results[0] if isinstance(found.results[0], tuple) else ()
        more = tuple(f"{several.name} [{number}]" for number in range(len(known), place + 1))
        self.operations[at] = Operation(found.name, found.target, found.arguments, ((*known, *more),), found.scope)
        return Reference(f"{several.name} [{place}]")

    def _size(self, of: Reference, axis: int) -> Any:
        if of.name in self.tensors:
            return self.tensors[of.name].shape[axis]
        return self._emit("torch.ops.aten.sym_size.int", {"self": of, "dim": axis})

    def _emit(self, target: str, arguments: dict[str, Any]) -> Reference:
        """An operation on numbers."""
        name = f"number {len(self.operations)}"
        self.operations.append(Operation(name, target, arguments, (name,)))
        self._numbers.add(name)
        return Reference(name)

    def _listed(self, value: Any, node: Any) -> Any:
        if not isinstance(value, Sizes):
            return value
        rank = self.ranks.get(value.of.name)
        if rank is None:
            raise no_graph("aten::size of a tensor whose number of axes depends on the input", node)
        return [self._size(value.of, axis) for axis in range(rank)]

    def _as_type(self, kind: str, value: Any) -> Any:
        if (
            isinstance(value, Reference)
            and value.name in self._fractions
            and kind in ("aten::Int", "aten::IntImplicit")
        ):
            return self._emit("math.trunc", {"a": value})
        if isinstance(value, bool | int | float):
            return {"aten::Int": int, "aten::Float": float, "aten::Bool": bool}.get(kind, lambda same: same)(value)
        return value

    def _is_number(self, value: Any) -> bool:
        return isinstance(value, bool | int | float) or (isinstance(value, Reference) and value.name in self._numbers)

    def _folded(self, node: Any, name: str) -> bool:
        """Arithmetic on numbers and lists; whether it was that."""
        values = self._all(node)
        compute = ARITHMETIC.get(name)
        if name == "slice" and isinstance(values[0], list | Sizes):
            start, end, step = values[1:4]
            self._keep(node, self._listed(values[0], node)[start : None if end == 2**63 - 1 else end : step])
            return True
        if compute is None:
            return False
        if name == "add" and any(isinstance(value, list | Sizes) for value in values):
            self._keep(node, [item for value in values for item in self._listed(value, node)])
            return True
        wanted = values[:1] if name == "neg" else values[:2]
        if name in ("eq", "ne") and all(isinstance(value, str | list | torch.dtype) for value in wanted):
            self._keep(node, compute(*wanted))
            return True
        if not all(map(self._is_number, wanted)):
            return False
        if name == "div" and len(values) > 2 and values[2] in ("floor", "trunc"):
            compute, name = ARITHMETIC["floordiv"], "floordiv"  # sizes are not negative
        if all(isinstance(value, bool | int | float) for value in wanted):
            self._keep(node, compute(*wanted))
            return True
        known = compute.__name__.strip("_")
        target = f"_operator.{known if known not in ('and', 'or') else known + '_'}"
        found = self._emit(target, dict(zip("ab", wanted, strict=False)))
        if name == "div":
            self._fractions.add(found.name)
        self._keep(node, found)
        return True


def no_graph(what: str, node: Any) -> CheckpointError:
    """The error of a script that is no straight line of operators: what it has instead, and where."""
    return CheckpointError(
        f"its script is not one graph of operators: {what[:120]}",
        hint="a script is measured where its forward is a straight line of operators once it is frozen: branches and "
        "loops on numbers of the input are not. torch.jit.trace gives such a line; or " + EXPORT_HINT,
        code="unsupported_operator",
        details={"operator": what[:120], "node": str(node).strip().partition(" #")[0][:200]},
    )
