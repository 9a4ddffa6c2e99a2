"""In which order the layers of a network run."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization.activation import Activation
from quant_lens_engine.quantization.instrumented_forward import InstrumentedForward


class LayersRun(NamedTuple):
    """What a pass over two rows has shown.

    Attributes:
        order: names of the modules, in the order in which their first calls end; one that is not called, but whose
            weight a function is given (``F.linear(x, embed.weight)``), where that happens.
        by_function: those whose whole weight is multiplied by a function.
    """

    order: list[str]
    by_function: frozenset[str]


def run_order(objective: Objective) -> list[str]:
    """Names of the modules that a pass runs; see :class:`LayersRun`.

    Example:
        >>> import torch
        >>> run_order(Objective(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), [(torch.eye(2), torch.tensor([0, 1]))]))
        ['0', '1', '']
    """
    return layers_run(objective).order


def layers_run(objective: Objective) -> LayersRun:
    """Which layers a pass over the first two rows runs."""
    ended: dict[str, None] = {}
    by_function: set[str] = set()

    def note(activation: Activation, values: Tensor) -> Tensor:
        if activation.by_function:
            ended.setdefault(activation.module)
            if activation.is_layer_input:
                by_function.add(activation.module)
        return values

    modules = dict(objective.model.named_modules())
    fused = [f"{name}." for name, module in modules.items() if isinstance(module, nn.MultiheadAttention)]
    names = [name for name in modules if not f"{name}.".startswith(tuple(fused))]
    forward = InstrumentedForward(objective.model, names, note)  # a copy: hooks go with it
    for name, module in forward.model.named_modules():
        module.register_forward_hook(lambda *_, name=name: ended.setdefault(name))
    first = next(iter(objective.batches()))
    objective.through(forward).scores(first.select(slice(0, min(2, first.rows))))
    return LayersRun(list(ended), frozenset(by_function))
