"""Any stack of linear layers that an ``nn.Sequential`` of Linear and activation makes."""

from __future__ import annotations

import re
from itertools import pairwise

from torch import Tensor, nn

from quant_lens_engine.errors import ArchitectureError
from quant_lens_engine.intake.architectures import Shapes, architecture

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "silu": nn.SiLU, "elu": nn.ELU,
}  # fmt: skip
_KEY = re.compile(r"(?P<prefix>(?:[A-Za-z_]\w*\.)*)(?P<index>\d+)\.weight")


@architecture("mlp")
def build(tensors: Shapes, *, activation: str = "relu") -> nn.Module:
    """Linear layers of an nn.Sequential with one activation between them: ReLU, unless another is chosen."""
    if activation not in _ACTIVATIONS:
        raise ArchitectureError(
            f"unknown activation {activation!r}", hint=f"one of {', '.join(_ACTIVATIONS)}", code="bad_option"
        )
    found = [(match, shape) for name, shape in tensors.items() if (match := _KEY.fullmatch(name)) and len(shape) == 2]
    prefixes = {match["prefix"] for match, _ in found}
    layers = sorted((int(match["index"]), shape) for match, shape in found)
    if len(prefixes) != 1:
        raise ArchitectureError("no numbered linear layers", hint="keys such as 0.weight, 2.weight, net.4.weight")
    stack = _FlatSequential()
    for position in range(layers[-1][0] + 1):
        shape = dict(layers).get(position)
        bias = f"{min(prefixes)}{position}.bias" in tensors
        stack.append(nn.Identity() if shape is None else nn.Linear(shape[1], shape[0], bias=bias))
    for (first, _), (following, _) in pairwise(layers):
        if following - first < 2:
            raise ArchitectureError("two linear layers without room for an activation between them")
        stack[first + 1] = _ACTIVATIONS[activation]()
    for name in reversed(min(prefixes).split(".")[:-1]):
        outer = _FlatSequential()
        outer.add_module(name, stack)
        stack = outer
    return stack


class _FlatSequential(nn.Sequential):
    """Takes images as rows of numbers."""

    def forward(self, rows: Tensor) -> Tensor:
        """``(rows, …)`` to ``(rows, outputs)``."""
        values = rows.flatten(1)
        for layer in self:
            values = layer(values)
        return values
