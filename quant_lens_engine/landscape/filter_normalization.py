"""Filter normalisation: directions that a rescaling of the network does not stretch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quant_lens_engine.filters import FilterLayout, filter_layouts


def filter_normalized(
    direction: Mapping[str, Tensor], point: Mapping[str, Tensor], model: nn.Module
) -> dict[str, Tensor]:
    """``direction`` scaled so that each filter is as long as the parameters' own (Li et al. 2018, arXiv:1712.09913).

    For each filter ‖d‖ = ‖θ‖. A filter is a row of a Linear, attention projection, recurrent layer, Embedding or free
    matrix; ``W[o]`` of a convolution; each (group, output channel) of a transposed one. Vectors and scalars (biases,
    normalisation) and zero filters get zero.

    Args:
        direction: random numbers by parameter name.
        point: the parameters that set the scale, by the same names.
        model: says which axes of each parameter make a filter (:mod:`quant_lens_engine.filters`).

    Returns:
        float64 tensors by the names of ``direction``.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> point = {"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([7.0])}
        >>> scaled = filter_normalized({"weight": torch.ones(1, 2), "bias": torch.ones(1)}, point, layer)
        >>> round(float(scaled["weight"].norm()), 6), float(scaled["bias"])
        (5.0, 0.0)
    """
    layouts = filter_layouts(model)
    return {name: as_long_by_filter(tensor, point[name], layouts[name]) for name, tensor in direction.items()}


def as_long_by_filter(direction: Tensor, parameter: Tensor, layout: FilterLayout) -> Tensor:
    """One tensor of :func:`filter_normalized`, in float64."""
    direction, parameter = direction.double(), parameter.double()
    if parameter.ndim < 2:
        return torch.zeros_like(direction)
    filters = layout.rows(direction)
    own = torch.linalg.vector_norm(layout.rows(parameter), dim=1)
    drawn = torch.linalg.vector_norm(filters, dim=1)
    factors = torch.where(drawn > 0, own / drawn, torch.zeros_like(own))
    return layout.restore(filters * factors[:, None], direction.shape)


def layer_normalized(direction: Mapping[str, Tensor], point: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``direction`` scaled so that each weight tensor is as long as the parameter's own; vectors get zero.

    Example:
        >>> float(layer_normalized({"w": torch.ones(2, 2)}, {"w": torch.full((2, 2), 3.0)})["w"].norm())
        6.0
    """
    return {name: as_long(tensor, point[name]) for name, tensor in direction.items()}


def as_long(direction: Tensor, parameter: Tensor) -> Tensor:
    """One tensor of :func:`layer_normalized`, in float64."""
    own, drawn = (torch.linalg.vector_norm(values.double()) for values in (parameter, direction))
    moves = direction.ndim >= 2 and bool(drawn)
    return direction.double() * (own / drawn) if moves else torch.zeros_like(direction, dtype=torch.float64)
