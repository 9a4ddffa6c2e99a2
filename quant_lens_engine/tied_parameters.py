"""Which names of a network stand for the same parameter."""

from __future__ import annotations

from torch import nn


def tied_parameters(model: nn.Module) -> list[set[str]]:
    """The names of each parameter that has several.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> model[1].weight = model[0].weight
        >>> [sorted(names) for names in tied_parameters(model)]
        [['0.weight', '1.weight']]
    """
    groups: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), set()).add(name)
    return [names for names in groups.values() if len(names) > 1]
