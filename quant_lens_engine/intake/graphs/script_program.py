"""A frozen TorchScript graph as the program of ATen operators that it is, for the builder of exported graphs.

Constants are folded, branches on what is known are taken, members become the names of tensors. What remains of control
flow (a branch or a loop on numbers of the input) cannot be one network and is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from quant_lens_engine.intake.graphs.answers import measured_output, unnamed
from quant_lens_engine.intake.graphs.aten_records import Device, Operation, Program, Reference
from quant_lens_engine.intake.graphs.refusals import bad_graph
from quant_lens_engine.intake.graphs.script_state import ScriptState, no_graph
from quant_lens_engine.intake.graphs.script_values import DTYPES, SAME, Member, Several, Sizes, rank_after

_BATCH_NORM_RANKS = {"BatchNorm1d": 2, "BatchNorm2d": 4, "BatchNorm3d": 5}
_CONVOLUTION = (
    "input", "weight", "bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups",
)  # fmt: skip
_WITHOUT_ANSWER = frozenset({"aten::warn", "prim::Print", "prim::TimePoint"})


class ScriptReader(ScriptState):
    """Reads one graph, node by node."""

    def __init__(self, graph: Any, module: Any) -> None:
        super().__init__()
        self._graph = graph
        self._dtypes: dict[str, torch.dtype] = {}
        self._constants = 0
        self._said = ""
        owner, *inputs = graph.inputs()
        self._values[owner.debugName()] = Member(module, "", "")
        self._inputs = [found.debugName() for found in inputs]

    def program(self, defaults: Iterable[Any], parameters: frozenset[str]) -> Program:
        """The whole graph.

        Args:
            defaults: of the inputs behind the first.
            parameters: paths of the tensors that are parameters.

        Raises:
            CheckpointError: ``unsupported_operator``; ``bad_graph``.
        """
        first, *others = self._inputs
        self._values[first] = Reference(first)
        for name, default in zip(others, defaults, strict=True):
            self._values[name] = default
        self._read(self._graph)
        outputs = [self._answer(self._values[found.debugName()]) for found in self._graph.outputs()]
        return Program(
            tuple(self.operations), {name: name for name in self.tensors},
            frozenset(name for name in self.tensors if name in parameters), (first,), {}, tuple(outputs),
            {name: (None,) * rank for name, rank in self.ranks.items()}, self._dtypes, self._said,
        )  # fmt: skip

    def _answer(self, value: Any) -> Any:
        """What is measured of the script's answer: a tensor, the first of several, the scores among named ones."""
        if isinstance(value, dict):
            found = measured_output([str(key) for key in value])
            self._said = self._said or found.note
            return self._answer(list(value.values())[found.place])
        if isinstance(value, list | tuple) and value:
            self._said = self._said or unnamed(len(value))
            return self._answer(value[0])
        if isinstance(value, Reference):
            return value
        raise bad_graph("its answer is no tensor: give one, or a dict with 'logits'")

    def _read(self, block: Any) -> None:
        for node in block.nodes():
            kind = node.kind()
            if kind in _WITHOUT_ANSWER:
                continue
            step = _STEPS.get(kind)
            if step is not None:
                step(self, node)
            elif kind in SAME:
                self._keep(node, self._as_type(kind, self._given(node, 0)))
            elif kind.startswith("aten::") and self._folded(node, kind.removeprefix("aten::")):
                continue
            elif kind.startswith("aten::"):
                self._call(node)
            else:
                raise no_graph(kind, node)

    def constant(self, node: Any) -> None:
        """A number, a text, a list, a tensor of the script's own."""
        value = node.output().toIValue()
        if isinstance(value, Tensor):
            name = f"constants.{self._constants}"
            self._constants += 1
            self.tensors[name] = value
            value = self._tensor(name)
        self._keep(node, Device() if isinstance(value, torch.device) else value)

    def attribute(self, node: Any) -> None:
        """A member of a module."""
        holder = self._given(node, 0)
        if not isinstance(holder, Member):
            raise no_graph("an attribute of something that is no module", node)
        name = node.s("name")
        path = f"{holder.path}.{name}" if holder.path else name
        found = holder.owner.getattr(name)
        if isinstance(found, Tensor):
            self.tensors[path] = found
            found = self._tensor(path)
            kind = _BATCH_NORM_RANKS.get(holder.kind)
            if kind is not None and name == "running_mean":
                self._values[f"norm {path}"] = kind
        elif hasattr(found, "getattr"):
            found = Member(found, path, str(node.output().type()).rpartition(".")[2])
        self._keep(node, found)

    def _tensor(self, name: str) -> Reference:
        self.ranks[name] = self.tensors[name].ndim
        return Reference(name)

    def construct(self, node: Any) -> None:
        """A list or a tuple."""
        self._keep(node, self._all(node))

    def mapping(self, node: Any) -> None:
        """A dict."""
        values = self._all(node)
        self._keep(node, dict(zip(values[::2], values[1::2], strict=True)))

    def unpack(self, node: Any) -> None:
        """The members of a list or a tuple."""
        value, outputs = self._given(node, 0), list(node.outputs())
        for place, output in enumerate(outputs):
            self._values[output.debugName()] = self._item(value, place, node)

    def item(self, node: Any) -> None:
        """One member."""
        value, key = self._given(node, 0), self._given(node, 1)
        if isinstance(value, dict):
            self._keep(node, value[key])
        elif type(key) is int:
            self._keep(node, self._item(value, key, node))
        else:
            raise no_graph("a member that is chosen by a computed number", node)

    def sizes(self, node: Any) -> None:
        """One size of a tensor, or all."""
        of, *axis = self._all(node)
        self._keep(node, self._size(of, axis[0]) if axis else Sizes(of))

    def axes(self, node: Any) -> None:
        """How many axes a tensor has."""
        rank = self.ranks.get(getattr(self._given(node, 0), "name", ""))
        if rank is None:
            raise no_graph("aten::dim of a tensor whose number of axes depends on the input", node)
        self._keep(node, rank)

    def length(self, node: Any) -> None:
        """How many members a list has, or rows a tensor."""
        value = self._given(node, 0)
        if isinstance(value, Reference):
            self._keep(node, self._size(value, 0))
        else:
            self._keep(node, len(self._listed(value, node)))

    def append(self, node: Any) -> None:
        """One more member: in a straight program the list is the same from here on."""
        value = self._given(node, 0)
        if not isinstance(value, list):
            raise no_graph("aten::append to a list that is not known", node)
        value.append(self._given(node, 1))

    def is_none(self, node: Any) -> None:
        """``is None`` or ``is not None``, the only identities that a frozen graph has."""
        same = self._given(node, 0) is self._given(node, 1)
        self._keep(node, same if node.kind() == "aten::__is__" else not same)

    def negate(self, node: Any) -> None:
        """``not``."""
        value = self._given(node, 0)
        if type(value) is not bool:
            raise no_graph("a condition on numbers of the input", node)
        self._keep(node, not value)

    def dtype(self, node: Any) -> None:
        """A tensor's dtype: of what the network computes in."""
        self._keep(node, torch.float32)

    def device(self, node: Any) -> None:
        """A tensor's device: wherever the network is."""
        self._keep(node, Device())

    def text(self, node: Any) -> None:
        """A message, of which nothing is needed."""
        self._keep(node, "")

    def branch(self, node: Any) -> None:
        """Taken where the condition is known; an assertion is left out."""
        condition = self._given(node, 0)
        blocks = list(node.blocks())
        raising = [any(inner.kind() == "prim::RaiseException" for inner in block.nodes()) for block in blocks]
        if type(condition) is bool:
            taken = blocks[0 if condition else 1]
        elif raising.count(True) == 1:
            taken = blocks[raising.index(False)]
        else:
            raise no_graph("prim::If, a branch that depends on the input", node)
        self._read(taken)
        for output, inner in zip(node.outputs(), taken.outputs(), strict=True):
            self._values[output.debugName()] = self._values[inner.debugName()]

    def _call(self, node: Any) -> None:
        """One ATen operator."""
        schema = torch._C.parse_schema(node.schema())
        name = schema.name.removeprefix("aten::")
        arguments = {
            argument.name: self._argument(argument.name, self._listed(value, node))
            for argument, value in zip(schema.arguments, self._all(node), strict=True)
        }
        overload = schema.overload_name or "default"
        if name == "_convolution":
            name, overload = "convolution", "default"
            arguments = {key: arguments[key] for key in _CONVOLUTION}
        self._note_ranks(node, name, arguments)
        outputs = [output.debugName() for output in node.outputs()]
        own = outputs[0] if outputs else f"node {len(self.operations)}"
        weight = arguments.get("weight")
        scope = weight.name.rpartition(".")[0] if isinstance(weight, Reference) else ""  # which of tied layers it was
        target = f"torch.ops.aten.{name}.{overload}"
        self.operations.append(Operation(own, target, arguments, tuple(outputs), scope))
        for output in node.outputs():
            is_list = str(output.type()) == "Tensor[]"
            self._values[output.debugName()] = Several(own) if is_list else Reference(output.debugName())

    def _argument(self, name: str, value: Any) -> Any:
        if name == "dtype" and type(value) is int:
            return DTYPES.get(value)
        if name == "device":
            return None if value is None else Device()
        if isinstance(value, Several | Member | dict):
            raise bad_graph(f"an argument {name!r} of a kind that is not read")
        return None if name in ("layout", "memory_format") else value

    def _note_ranks(self, node: Any, name: str, arguments: dict[str, Any]) -> None:
        given = [
            value.name
            for value in arguments.values()
            if isinstance(value, Reference) and value.name not in self._numbers
        ]
        if "conv" in name and len(given) > 1 and given[1] in self.ranks:
            self.ranks.setdefault(given[0], self.ranks[given[1]])
        if name == "batch_norm" and isinstance(mean := arguments.get("running_mean"), Reference):
            known = self._values.get(f"norm {mean.name}")
            if type(known) is int:
                self.ranks.setdefault(given[0], known)
        if name == "embedding" and len(given) > 1 and given[1] == self._inputs[0]:
            self._dtypes[given[1]] = torch.int64
        looked = given[:1] if name in ("linear", "batch_norm", "layer_norm", "group_norm", "prelu") else given
        rank = rank_after(name, arguments, [self.ranks.get(value) for value in looked])
        outputs = list(node.outputs())
        if rank is not None and len(outputs) == 1:
            self.ranks[outputs[0].debugName()] = rank


_STEPS: dict[str, Any] = {
    "prim::Constant": ScriptReader.constant,
    "prim::GetAttr": ScriptReader.attribute,
    "prim::ListConstruct": ScriptReader.construct,
    "prim::TupleConstruct": ScriptReader.construct,
    "prim::DictConstruct": ScriptReader.mapping,
    "prim::ListUnpack": ScriptReader.unpack,
    "prim::TupleUnpack": ScriptReader.unpack,
    "prim::TupleIndex": ScriptReader.item,
    "aten::__getitem__": ScriptReader.item,
    "aten::size": ScriptReader.sizes,
    "aten::dim": ScriptReader.axes,
    "aten::len": ScriptReader.length,
    "aten::append": ScriptReader.append,
    "aten::__is__": ScriptReader.is_none,
    "aten::__isnot__": ScriptReader.is_none,
    "aten::__not__": ScriptReader.negate,
    "aten::format": ScriptReader.text,
    "prim::dtype": ScriptReader.dtype,
    "prim::device": ScriptReader.device,
    "prim::If": ScriptReader.branch,
}
