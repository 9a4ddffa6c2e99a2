"""An ONNX graph as a network: each operator has a handler of ours, layers become torch's own modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx

from quant_lens_engine.intake.graphs.assembly import Assembly
from quant_lens_engine.intake.graphs.names import as_path, is_path
from quant_lens_engine.intake.graphs.network import Network, Shapes
from quant_lens_engine.intake.graphs.onnx_file import Call, OnnxGraph
from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS
from quant_lens_engine.intake.graphs.onnx_placement import FileTensors, Placement, Stored
from quant_lens_engine.intake.graphs.onnx_sizes import Size, known_sizes, plain
from quant_lens_engine.intake.graphs.refusals import EXPORT_CALL, MALFORMED, bad_graph, unsupported_operator

_OTHER_WAYS = (
    f"torch.export may write the same network with operators that are on the list: {EXPORT_CALL}; otherwise bring the "
    "class as a plug-in (QUANT_LENS_PLUGINS; on the command line --plugins) and its state dict"
)


def network_of(graph: OnnxGraph) -> tuple[Network, Placement]:
    """The network of an ONNX graph, and where its tensors went.

    Raises:
        CheckpointError: ``unsupported_operator``; ``bad_output``; ``bad_graph``.
    """
    if not graph.inputs or not graph.outputs:
        raise bad_graph("it takes no input, or answers nothing")
    for call in graph.calls:
        if call.operator not in OPERATORS:
            raise unsupported_operator(call.operator, call.name, _OTHER_WAYS)
    placement = Placement()
    OnnxBuilder(graph, placement).module()
    shape = next(iter(graph.inputs.values()))

    def assemble(shapes: Shapes) -> fx.GraphModule:  # noqa: ARG001  (their sizes are the file's)
        return OnnxBuilder(graph, Placement()).module()

    network = Network(
        origin=f"ONNX, opset {graph.opset}",
        assemble=assemble,
        buffers=placement.buffers,
        row=tuple(shape[1:]),
        whole_numbers=next(iter(graph.inputs)) in graph.whole_numbers,
        fixed_batch=shape[0] if shape else None,
        operators=len(graph.calls),
    )
    return network, placement


class OnnxBuilder:
    """Puts one graph together.

    Attributes:
        graph: the file's.
        assembly: what it becomes.
        tensors: the file's, with what becomes of them.
        readers: calls that read a value, by its name.
    """

    def __init__(self, graph: OnnxGraph, placement: Placement) -> None:
        self.graph = graph
        self.assembly = Assembly(placement.shapes, placement.buffers, placement.ties)
        self.tensors = FileTensors(graph.initializers, placement, self.assembly)
        self.readers: dict[str, list[Call]] = {}
        for call in graph.calls:
            for name in call.inputs:
                self.readers.setdefault(name, []).append(call)
        self._values: dict[str, Any] = {}
        self._absorbed: set[str] = set()
        self._ranks = dict(graph.ranks)

    def module(self) -> fx.GraphModule:
        """The module."""
        for name in self.graph.inputs:
            self._values[name] = self.assembly.input(name)
        for call in self.graph.calls:
            if call.outputs and call.outputs[0] in self._absorbed:
                continue
            try:
                answer = OPERATORS[call.operator](self, call)
            except MALFORMED as error:
                raise bad_graph(f"{call.operator} cannot be made ({error.__class__.__name__})", call.name) from None
            answers = answer if isinstance(answer, tuple) else (answer,)
            self._values |= {name: value for name, value in zip(call.outputs, answers, strict=False) if name}
            self._note_rank(call)
        self.assembly.output(self.as_tensor(self.value(self.graph.outputs[self.graph.answer.place])))
        try:
            return self.assembly.finished()
        except (RuntimeError, SyntaxError, AttributeError) as error:
            raise bad_graph(str(error).partition("\n")[0][:200]) from None

    # ---- values

    def value(self, name: str) -> Any:
        """What a name stands for: a node, known integers, a tensor of the file; None where no name is given."""
        if not name:
            return None
        if name in self._values:
            return self._values[name]
        found = self.graph.initializers.get(name)
        if found is None:
            raise bad_graph(f"nothing is called {name[:80]!r}")
        self._values[name] = Stored(name) if found.floating else found.array()
        return self._values[name]

    def given(self, call: Call, place: int) -> Any:
        """The input at a place; None where it is not given."""
        return self.value(call.inputs[place]) if place < len(call.inputs) else None

    def tensor(self, call: Call, place: int) -> fx.Node:
        """The input at a place as a tensor of the running network."""
        value = self.given(call, place)
        if value is None:
            raise bad_graph(f"{call.operator} lacks its input {place + 1}", call.name)
        return self.as_tensor(value)

    def optional(self, call: Call, place: int) -> fx.Node | None:
        """Likewise; None where it is not given."""
        return None if self.given(call, place) is None else self.tensor(call, place)

    def known(self, call: Call, place: int) -> np.ndarray | None:
        """The input at a place where it is known now; None where it is not, or not given."""
        value = self.given(call, place)
        return value if isinstance(value, np.ndarray) else None

    def numbers(self, call: Call, place: int) -> list[Any] | None:
        """Integers as arguments of functions; None where they are not given.

        Raises:
            CheckpointError: ``bad_graph`` where they depend on values.
        """
        if self.given(call, place) is None:
            return None
        known = self.known(call, place)
        if known is None:
            raise bad_graph(f"an argument of {call.operator} depends on values", call.name)
        return [plain(value) for value in known.reshape(-1)]

    def floats(self, call: Call, place: int) -> list[float] | None:
        """Numbers that are known now, the file's own tensors included; None where they are not given."""
        value = self.given(call, place)
        if isinstance(value, Stored):
            value = self.graph.initializers[value.name].array()
        if value is None or (isinstance(value, np.ndarray) and value.size == 0):
            return None
        if not isinstance(value, np.ndarray) or value.dtype == object:
            raise bad_graph(f"an argument of {call.operator} depends on values", call.name)
        return [float(number) for number in value.reshape(-1)]

    def whole(self, call: Call, place: int) -> bool:
        """Whether an input is known to be integers."""
        value = self.given(call, place)
        if isinstance(value, np.ndarray):
            return value.dtype == object or value.dtype.kind in "iu"
        return self.graph.kinds.get(call.inputs[place]) in (2, 3, 4, 5, 6, 7, 12, 13)

    def as_tensor(self, value: Any) -> fx.Node:
        """A node."""
        if isinstance(value, fx.Node):
            return value
        if isinstance(value, Stored):
            node = self.tensors.read(value)
            return self.assembly.method("t", node) if value.turned else node
        array: np.ndarray = value
        if array.dtype == object:
            flat = self.assembly.call(
                torch.tensor, [plain(item) for item in array.reshape(-1)], device=self.assembly.device()
            )
            return self.assembly.call(torch.reshape, flat, tuple(array.shape))
        return self.assembly.constant(torch.from_numpy(np.array(array)))

    def rank(self, call: Call, place: int) -> int | None:
        """How many axes an input has."""
        return self._ranks.get(call.inputs[place])

    def sizes(self, call: Call, place: int) -> np.ndarray:
        """All sizes of an input.

        Raises:
            CheckpointError: ``bad_graph`` where the number of its axes is not known.
        """
        value = self.given(call, place)
        if isinstance(value, np.ndarray):
            return known_sizes(list(value.shape))
        if isinstance(value, Stored):
            return known_sizes(list(self.tensors.shape(value)))
        rank = self.rank(call, place)
        if rank is None:
            raise bad_graph("the number of axes of a value is not known", call.name)
        node = self.as_tensor(value)
        return known_sizes([Size(self.assembly.method("size", node, axis)) for axis in range(rank)])

    def _note_rank(self, call: Call) -> None:
        """Ranks that the library has not inferred, since it was given no data: of computed shapes, and what follows."""
        ranks = [self._ranks.get(name) for name in call.inputs if name]
        first = ranks[0] if ranks else None
        found: int | None = None
        if call.operator in ("Reshape", "Expand"):
            known = self.known(call, 1)
            found = None if known is None else max(known.size, (first or 0) if call.operator == "Expand" else 0)
        elif call.operator in ("Transpose", "Softmax", "LayerNormalization", "Slice", "Cast", "Split", "Relu", "Erf"):
            found = first
        elif call.operator in ("Add", "Sub", "Mul", "Div", "MatMul", "Concat", "Where") and None not in ranks:
            found = max(rank for rank in ranks if rank is not None)
        for name in call.outputs:
            if found is not None and name:
                self._ranks.setdefault(name, found)

    # ---- tensors of the file

    def weight(self, call: Call, place: int) -> Stored | None:
        """The input at a place, where it is a tensor of the file."""
        value = self.given(call, place)
        return value if isinstance(value, Stored) else None

    def vector(self, call: Call, place: int) -> Stored | None:
        """Likewise, of one axis."""
        value = self.weight(call, place)
        return value if value is not None and len(self.graph.initializers[value.name].shape) == 1 else None

    def layer_path(self, call: Call, roles: Mapping[str, Stored | None]) -> str:
        """What a layer is called: by its tensors' names, by what the exporter noted, by the node's own name."""
        for role, stored in roles.items():
            if stored is not None and stored.name.endswith(f".{role}") and is_path(stored.name):
                return stored.name.removesuffix(f".{role}")
        if call.scope and is_path(call.scope):
            return call.scope
        return as_path(call.name)

    def absorb(self, call: Call, value: fx.Node) -> None:
        """Let a call that a layer has done already answer with the layer's output."""
        self._absorbed.add(call.outputs[0])
        self._values[call.outputs[0]] = value

    def only_reader(self, name: str) -> Call | None:
        """The one call that reads a value that is no output."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.graph.outputs else None
