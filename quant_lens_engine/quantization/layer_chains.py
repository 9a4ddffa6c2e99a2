"""Which layer feeds which, through operations that a rescaling passes: found by tracing the network with torch.fx."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from quant_lens_engine.errors import SchemeError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

_PASSING_MODULES = (
    nn.ReLU, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.MaxPool1d, nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool2d, nn.Flatten, nn.LeakyReLU,
)  # fmt: skip
_PASSING_FUNCTIONS = {
    F.relu, torch.relu, F.leaky_relu, F.dropout, F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d,
    F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.flatten,
}  # fmt: skip
_PASSING_METHODS = {"relu", "relu_", "flatten", "contiguous"}
"""Positively homogeneous in each channel: f(c·x) = c·f(x) for c > 0, and channels stay apart."""


@dataclass(frozen=True)
class LayerChain:
    """A layer whose output is read by one batch normalisation, by one layer, or by both in turn.

    Attributes:
        first: name of the layer.
        normalization: name of the batch normalisation right behind it, if there is one.
        second: name of the layer that alone reads what comes out, if there is one.
        flattened: between the two all axes behind the rows were joined, so that a channel is several features.
    """

    first: str
    normalization: str | None
    second: str | None
    flattened: bool = False


def find_chains(model: nn.Module, layers: set[str], algorithm: str) -> list[LayerChain]:
    """The chains that begin at each of ``layers``, in the order in which they run.

    Raises:
        SchemeError: ``not_traceable``: the network's path depends on its values, or torch.fx does not know an
        operation.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
        >>> find_chains(model, {"0", "4"}, "equalize")[0]
        LayerChain(first='0', normalization='1', second='4', flattened=True)
    """
    try:
        graph = fx.Tracer().trace(model)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise SchemeError(
            f"{algorithm} needs to know which layer feeds which, and torch.fx cannot trace {type(model).__name__}: "
            f"{str(error).partition(chr(10))[0][:200]}",
            hint="leave this algorithm out, or give the model without a path that depends on its values",
            code="not_traceable",
        ) from error
    modules = dict(model.named_modules())
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[node.target] = calls.get(node.target, 0) + 1
    return [
        _chain(node, modules, layers, calls)
        for node in graph.nodes
        if node.op == "call_module" and node.target in layers and calls[node.target] == 1
    ]


def _chain(node: fx.Node, modules: dict[str, nn.Module], layers: set[str], calls: dict[str, int]) -> LayerChain:
    first = str(node.target)
    normalization: str | None = None
    flattened = False
    while (reader := _only_reader(node)) is not None:
        module = modules.get(str(reader.target)) if reader.op == "call_module" else None
        if (
            isinstance(module, BATCH_NORMS)
            and module.running_var is not None
            and normalization is None
            and node.target == first
            and calls[str(reader.target)] == 1
        ):
            normalization = str(reader.target)
        elif module is not None and str(reader.target) in layers and calls[str(reader.target)] == 1:
            return LayerChain(first, normalization, str(reader.target), flattened)
        elif not _passes(reader, module):
            break
        axes = _joined_axes(reader, module)
        if axes not in (None, (1, -1)):
            break
        flattened |= axes is not None
        node = reader
    return LayerChain(first, normalization, None)


def _only_reader(node: fx.Node) -> fx.Node | None:
    readers = list(node.users)
    return readers[0] if len(readers) == 1 else None


def _joined_axes(node: fx.Node, module: nn.Module | None) -> tuple[Any, Any] | None:
    """The first and the last axis that a flattening joins; None for any other operation."""
    if isinstance(module, nn.Flatten):
        return module.start_dim, module.end_dim
    if node.target not in ("flatten", torch.flatten):
        return None
    given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
    return given.get("start_dim", 0), given.get("end_dim", -1)


def _passes(node: fx.Node, module: nn.Module | None) -> bool:
    if node.op == "call_module":
        return isinstance(module, _PASSING_MODULES)
    if node.op == "call_function":
        target: Any = node.target
        return target in _PASSING_FUNCTIONS and target is not operator.getitem
    return node.op == "call_method" and node.target in _PASSING_METHODS
