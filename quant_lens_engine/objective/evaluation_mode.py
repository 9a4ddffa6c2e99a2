"""``eval()`` for the time being, for any module: exported graphs too, which refuse to be told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import fx, nn

_SWITCHES = ("train", "training")
"""What operators call the argument that says whether they train (dropout, batch normalisation, recurrent layers)."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """``eval()`` for the time being; each module's own mode comes back, exceptions included.

    A graph from ``torch.export`` has its mode in the arguments of its operators, and its ``eval()`` raises. There each
    operator that trains is switched off, and on again, buffers restored; torchao's ``move_exported_model_to_eval``
    does the same for some of them, by rewriting the graph.

    Example:
        >>> graph = torch.export.export(nn.Dropout(), (torch.ones(2),), strict=False).module()
        >>> with evaluation_mode(graph):
        ...     graph(torch.ones(2)).tolist()
        [1.0, 1.0]
        >>> graph.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    exported = [module for module, _ in modes if isinstance(module, fx.GraphModule) and is_exported(module)]
    with ExitStack() as switched:
        try:
            if exported:
                for module, _ in modes:
                    module.training = False
                for graph in exported:
                    switched.enter_context(_not_training(graph))
            else:
                model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training


def is_exported(module: nn.Module) -> bool:
    """Whether it is a graph of operators, as ``torch.export`` writes one down.

    Example:
        >>> is_exported(fx.symbolic_trace(nn.ReLU()))
        False
    """
    return isinstance(module, fx.GraphModule) and any(
        node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes
    )


@contextmanager
def _not_training(graph: fx.GraphModule) -> Iterator[None]:
    """Operators that train do not, and buffers that such a graph counts up in come back."""
    switched = [(node, place) for node in graph.graph.nodes if (place := _training_argument(node)) is not None]
    if not switched:
        yield
        return
    buffers = [(buffer, buffer.clone()) for buffer in graph.buffers()]
    try:
        _set(graph, switched, training=False)
        yield
    finally:
        _set(graph, switched, training=True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _training_argument(node: fx.Node) -> int | str | None:
    """Where an operator is told to train; None where it is not."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return None
    for place, argument in enumerate(node.target._schema.arguments):
        if argument.name not in _SWITCHES:
            continue
        if place < len(node.args) and node.args[place] is True:
            return place
        if node.kwargs.get(argument.name) is True:
            return argument.name
    return None


def _set(graph: fx.GraphModule, switched: list[tuple[fx.Node, int | str]], *, training: bool) -> None:
    for node, place in switched:
        if isinstance(place, int):
            node.update_arg(place, training)
        else:
            node.update_kwarg(place, training)
    graph.recompile()
