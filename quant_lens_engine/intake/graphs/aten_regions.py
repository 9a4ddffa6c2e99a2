"""Parts of an exported graph in which gradients are switched (``torch.no_grad()``), put in the place of their calls.

torch.export writes such a part down as a graph of its own, as it does with the rotary embeddings of transformers. Its
values are the same with gradients on; what leaves it is detached, so that derivatives stop there as in the module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quant_lens_engine.intake.graphs.aten_records import Operation, Reference, names_made
from quant_lens_engine.intake.graphs.refusals import bad_graph, unsupported_operator

REGION = "torch.ops.higher_order.wrap_with_set_grad_enabled"


@dataclass(frozen=True)
class Region:
    """Such a part.

    Attributes:
        name: of its call.
        enabled: whether gradients are on within.
        inputs: names of what it is given.
        operations: in the order in which they run.
        outputs: names of what it answers.
    """

    name: str
    enabled: bool
    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def in_place_of_its_call(self, given: Sequence[Any], names: Sequence[str]) -> list[Operation]:
        """Its operations under names of their own, and its answers as ``names``.

        Raises:
            CheckpointError: ``bad_graph``; ``unsupported_operator`` where it writes in place.
        """
        if len(self.inputs) != len(given) or len(self.outputs) != len(names):
            raise bad_graph("a part of it and its call do not go together", self.name)
        values: dict[str, Any] = dict(zip(self.inputs, given, strict=True))
        if len(values) != len(given):
            raise bad_graph("a part of it has two inputs of one name", self.name)
        placed = [self._placed(operation, values) for operation in self.operations]
        leave = "alias" if self.enabled else "detach"
        for inside, name in zip(self.outputs, names, strict=True):
            answer = _value(Reference(inside), values)
            placed.append(
                Operation(f"{self.name}/{name}", f"torch.ops.aten.{leave}.default", {"self": answer}, (name,))
            )
        return placed

    def _placed(self, operation: Operation, values: dict[str, Any]) -> Operation:
        # What it writes into may be read outside, where gradients are on.
        if operation.target.rpartition(".")[0].endswith("_"):
            raise unsupported_operator(operation.target, operation.name)
        arguments = {name: _value(argument, values) for name, argument in operation.arguments.items()}
        for name in names_made(operation.results):
            if name in values:
                raise bad_graph(f"two values are called {name[:80]!r}", operation.name)
            values[name] = Reference(f"{self.name}/{name}")
        results = tuple(_result(result, values) for result in operation.results)
        return replace(operation, name=f"{self.name}/{operation.name}", arguments=arguments, results=results)


def _value(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, list):
        return [_value(item, values) for item in argument]
    if not isinstance(argument, Reference):
        return argument
    if argument.name not in values:
        raise bad_graph(f"{argument.name[:80]!r} is read before it is made")
    return values[argument.name]


def _result(result: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(result, tuple):
        return tuple(_result(item, values) for item in result)
    return None if result is None else values[result].name
