"""A module that is put together operator by operator: torch's layers where they fit, functions everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from quant_lens_engine.intake.graphs.names import as_path, is_path


class Assembly:
    """One network in the making.

    Args:
        shapes: every tensor of the checkpoint by its name, which is its name in the module.
        buffers: dtypes of those that are no parameters, by their names.
        ties: names that are one tensor with another name: ``{"head.weight": "embed.weight"}``.

    Attributes:
        shapes: as given; names may be added while the network is put together.
        buffers: likewise.
        ties: likewise.
        graph: what the module will compute.

    Example:
        >>> assembly = Assembly({"fc.weight": (2, 3), "fc.bias": (2,)})
        >>> x = assembly.input("x")
        >>> node = assembly.layer("fc", ("linear",), lambda: nn.Linear(3, 2), x)
        >>> assembly.output(assembly.call(torch.relu, node))
        >>> module = assembly.finished()
        >>> type(module.fc).__name__, module(torch.zeros(5, 3)).shape
        ('Linear', torch.Size([5, 2]))
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], buffers: Mapping[str, torch.dtype] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.shapes = shapes
        self.graph = fx.Graph()
        self._root = nn.Module()
        self.buffers = {} if buffers is None else buffers
        self.ties = {} if ties is None else ties
        self._layers: dict[str, Hashable] = {}
        self._inputs: list[fx.Node] = []
        self._reads: dict[str, fx.Node] = {}
        self._constants = 0
        self._traits: dict[str, fx.Node] = {}
        self._like: fx.Node | None = None

    def input(self, name: str) -> fx.Node:
        """A tensor that the caller gives, by position or by this name."""
        node = self.graph.placeholder(as_path(name).replace(".", "_"))
        self._inputs.append(node)
        return node

    def tensor(self, name: str) -> fx.Node:
        """A parameter or buffer of the checkpoint."""
        assert is_path(name)
        if name not in self._reads:
            self._own(name)
            self._reads[name] = self._at_the_top(lambda: self.graph.create_node("get_attr", name))
        return self._reads[name]

    def constant(self, value: Tensor) -> fx.Node:
        """A tensor that is part of the graph: it goes where the module goes, and into no state dict."""
        name = f"constant_{self._constants}"
        self._constants += 1
        self._root.register_buffer(name, value, persistent=False)
        return self._at_the_top(lambda: self.graph.create_node("get_attr", name))

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """The answer of a function."""
        return self.graph.call_function(function, args, kwargs)

    def method(self, name: str, *args: Any) -> fx.Node:
        """The answer of a tensor's method; the tensor comes first."""
        return self.graph.call_method(name, args)

    def layer(self, path: str, kind: Hashable, make: Callable[[], nn.Module], value: fx.Node) -> fx.Node | None:
        """The answer of the layer at ``path``.

        None where another kind of layer is there already, or where a tensor of its name is none of its own: a bias that
        is added elsewhere.

        Args:
            path: the layer's name; tensors ``path.weight``, ``path.bias`` … are its own.
            kind: what it is, settings included: a second call of the same layer has the same.
            make: makes the layer, in the shapes of the checkpoint.
            value: its input.
        """
        if not is_path(path) or self._layers.get(path, kind) != kind:
            return None
        if path not in self._layers:
            made = make()
            if any(own is None and f"{path}.{name}" in self.shapes for name, own in made._parameters.items()):
                return None
            self._layers[path] = kind
            self._place(path, made)
        return self.graph.call_module(path, (value,))

    def dtype(self) -> fx.Node:
        """What the network computes in when it runs, wherever the file says a floating-point dtype."""
        return self._trait("dtype")

    def device(self) -> fx.Node:
        """Where the network is when it runs."""
        return self._trait("device")

    def output(self, value: Any) -> None:
        """What the network answers."""
        self.graph.output(value)

    def finished(self) -> fx.GraphModule:
        """The module: every tensor of the checkpoint is in it, unread ones too, and tied ones are one."""
        for name in self.shapes:
            self._own(name)
        module = fx.GraphModule(self._root, self.graph, "NetworkFromFile")
        module.graph.eliminate_dead_code()
        module.graph.lint()
        module.recompile()
        for name, value in list(module.named_buffers(recurse=False)):
            if name not in self.shapes:  # fx forgets that these are part of no state dict
                module.register_buffer(name, value, persistent=False)
        for name in self.shapes:  # fx takes along only what the graph reads
            self._copy(module, name)
        for name, first in self.ties.items():
            _set(module, name, _get(module, first))
        return module

    def _trait(self, name: str) -> fx.Node:
        """An attribute of an empty tensor that moves and changes its precision with the module."""
        if self._like is None:
            self._like = self.constant(torch.zeros(0))
        like = self._like
        if name not in self._traits:
            self._traits[name] = self._after(like, lambda: self.graph.call_function(getattr, (like, name)))
        return self._traits[name]

    def _at_the_top(self, make: Callable[[], fx.Node]) -> fx.Node:
        return self._after(self._inputs[-1], make) if self._inputs else make()

    def _after(self, node: fx.Node, make: Callable[[], fx.Node]) -> fx.Node:
        with self.graph.inserting_after(node):
            return make()

    def _own(self, name: str) -> None:
        """Have the tensor, unless a layer has it."""
        owner, last = self._owner(name)
        if last in owner._parameters or last in owner._buffers:
            return
        shape = self.shapes[name]
        if name in self.buffers:
            owner.register_buffer(last, torch.zeros(shape, dtype=self.buffers[name]))
        else:
            owner.register_parameter(last, nn.Parameter(torch.zeros(shape)))

    def _owner(self, name: str) -> tuple[nn.Module, str]:
        path, _, last = name.rpartition(".")
        owner = self._root
        for part in filter(None, path.split(".")):
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            found = owner._modules[part]
            assert found is not None
            owner = found
        return owner, last

    def _place(self, path: str, layer: nn.Module) -> None:
        owner, last = self._owner(path)
        before = owner._modules.get(last)
        if before is not None:  # something inside it was read first
            for name, module in before.named_children():
                layer.add_module(name, module)
            for name, parameter in before.named_parameters(recurse=False):
                if name not in layer._parameters:
                    layer.register_parameter(name, parameter)
        owner.add_module(last, layer)

    def _copy(self, module: fx.GraphModule, name: str) -> None:
        path, _, last = name.rpartition(".")
        source = self._root.get_submodule(path)
        target: nn.Module = module
        for part in filter(None, path.split(".")):
            if part not in target._modules:
                target.add_module(part, nn.Module())
            target = target.get_submodule(part)
        for store in ("_parameters", "_buffers"):
            if last in getattr(source, store) and last not in getattr(target, store):
                getattr(target, store)[last] = getattr(source, store)[last]


def _get(module: nn.Module, name: str) -> Any:
    path, _, last = name.rpartition(".")
    return getattr(module.get_submodule(path), last)


def _set(module: nn.Module, name: str, value: Any) -> None:
    path, _, last = name.rpartition(".")
    setattr(module.get_submodule(path), last, value)
