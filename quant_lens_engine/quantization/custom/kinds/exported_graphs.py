"""Graphs from ``torch.export`` that PT2E converted: constants, the operators that dequantize them, and their readers.

A layer's weight is what arrives at its operator; which layer that is stands in the operator's ``nn_module_stack``.
Where a module calls an operator on parameters of its own (attention), a converted graph does not say which one a
constant was: it stays without a name, and ``mapping.py`` finds one by its shape and its value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from quant_lens_engine.objective.evaluation_mode import is_exported
from quant_lens_engine.quantization.custom.reading import (
    MODULE_READERS,
    NAMELESS,
    StoredTensor,
    Unmapped,
    read_tensor,
    unpacked,
)

_LAYER = re.compile(r"\b(?:(?:Quantizable)?Linear|Conv(?:Transpose)?[123]d|Embedding(?:Bag)?)\b")


class ExportedGraphs:
    """A graph of operators."""

    whole: ClassVar[bool] = True

    def reads(self, module: nn.Module) -> bool:
        """Whether ``torch.export`` wrote it down."""
        return is_exported(module)

    def tensors(self, module: nn.Module) -> Iterator[tuple[str, StoredTensor]]:
        """What the graph reads, by the names of the network that was exported."""
        assert isinstance(module, fx.GraphModule)
        _require_converted(module)
        graph = _Graph(module)
        yield from graph.read().items()


class _Graph:
    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.found: dict[str, StoredTensor] = {}

    def read(self) -> dict[str, StoredTensor]:
        nodes = list(self.module.graph.nodes)
        dequantized = [node for node in nodes if _is_dequantizing(node) and self._constant(node) is not None]
        behind = _sources(dequantized)
        for node in nodes:
            if node.op == "get_attr" and node not in behind:
                self._read_plain(node)
        for node in dequantized:
            if node not in behind:
                self._read_dequantized(node)
        return self.found

    def _read_plain(self, node: fx.Node) -> None:
        tensor = _attribute(self.module, str(node.target))
        if not isinstance(tensor, Tensor):
            return
        stored = StoredTensor(read_tensor(tensor).value, 8 * tensor.nbytes, quantized=False, source=id(tensor))
        for name in {str(node.target), *filter(None, (_layer_name(user, node) for user in node.users))}:
            self._keep(name, stored)

    def _read_dequantized(self, node: fx.Node) -> None:
        value = self._constant(node)
        assert value is not None
        bits, code = self._stored_bits(node)
        stored = StoredTensor(value, bits, quantized=True, note=unpacked(code) if code < 8 else None, source=node.name)
        names = {name for user in node.users if (name := _layer_name(user, node)) is not None}
        for name in names or {f"{NAMELESS}{node.name}"}:
            self._keep(name, stored)

    def _keep(self, name: str, stored: StoredTensor) -> None:
        known = self.found.get(name)
        if known is not None and not torch.equal(known.value, stored.value):
            raise Unmapped(f"{name} has two values in the custom model: its graph reads it twice, rounded differently")
        self.found.setdefault(name, stored)

    def _constant(self, node: Any) -> Tensor | None:
        """The value of a node that no input reaches."""
        if node.op == "get_attr":
            tensor = _attribute(self.module, str(node.target))
            return tensor.detach() if isinstance(tensor, Tensor) else None
        if node.op != "call_function" or not node.all_input_nodes:
            return None
        inputs = {source: self._constant(source) for source in node.all_input_nodes}
        if any(value is None for value in inputs.values()):
            return None
        arguments = fx.map_arg((node.args, node.kwargs), inputs.__getitem__)
        with torch.no_grad():
            value = node.target(*arguments[0], **arguments[1])
        return value if isinstance(value, Tensor) else None

    def _stored_bits(self, node: fx.Node) -> tuple[float, int]:
        """Of codes and qparams, and of one code."""
        given = _arguments(node)
        codes = self._constant(node.args[0])
        assert codes is not None
        low, high = given.get("quant_min"), given.get("quant_max")
        code = 8 * codes.element_size() if low is None or high is None else math.ceil(math.log2(high - low + 1))
        scale = next((given[name] for name in ("scale", "scales") if name in given), None)
        scales = self._constant(scale) if isinstance(scale, fx.Node) else None
        zero = next((given[name] for name in ("zero_point", "zero_points") if given.get(name) is not None), None)
        count, width = (1, 32) if scales is None else (scales.numel(), 8 * scales.element_size())
        return codes.numel() * code + count * (width + (0 if zero is None else code)), code


def _require_converted(module: fx.GraphModule) -> None:
    for node in module.graph.nodes:
        called = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if callable(getattr(called, "calculate_qparams", None)):
            raise Unmapped("the custom model's graph is prepared for PT2E, and not converted yet (convert_pt2e)")


def _sources(nodes: list[fx.Node]) -> set[fx.Node]:
    """Every node that one of these is computed from."""
    found: set[fx.Node] = set()
    waiting = [source for node in nodes for source in node.all_input_nodes]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _is_dequantizing(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and "dequantize" in str(node.target)


def _arguments(node: fx.Node) -> dict[str, Any]:
    """An operator's arguments by the names in its schema."""
    assert isinstance(node.target, torch._ops.OpOverload)
    names = [argument.name for argument in node.target._schema.arguments]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _layer_name(user: fx.Node, source: fx.Node) -> str | None:
    """What a layer with one weight calls the input ``source`` of its operator; None elsewhere."""
    stack: Sequence[tuple[str, Any]] = list(user.meta.get("nn_module_stack", {}).values())
    if not stack or not isinstance(user.target, torch._ops.OpOverload):
        return None
    path, kind = stack[-1]
    role = next((name for name, given in _arguments(user).items() if given is source), None)
    if role not in ("weight", "bias") or _LAYER.search(str(kind)) is None:
        return None
    layer = re.sub(r"@\d+", "", path.removeprefix("L['self']").removeprefix("."))  # @1: its second call
    return f"{layer}.{role}" if layer else role


def _attribute(module: nn.Module, target: str) -> object:
    owner, _, name = target.rpartition(".")
    return getattr(module.get_submodule(owner), name, None)


MODULE_READERS.add("exported-graph", ExportedGraphs())
