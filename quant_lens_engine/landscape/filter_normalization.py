"""Filter normalisation: directions that a rescaling of the network does not stretch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


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
        model: says which parameters are a transposed convolution's weight.

    Returns:
        float64 tensors by the names of ``direction``.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> point = {"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([7.0])}
        >>> scaled = filter_normalized({"weight": torch.ones(1, 2), "bias": torch.ones(1)}, point, layer)
        >>> round(float(scaled["weight"].norm()), 6), float(scaled["bias"])
        (5.0, 0.0)
    """
    groups = transposed_groups(model)
    return {
        name: _scaled(tensor.double(), point[name].double(), groups.get(name)) for name, tensor in direction.items()
    }


def transposed_groups(model: nn.Module) -> dict[str, int]:
    """The names of transposed convolutions' weights, with their groups."""
    owners = {id(module.weight): module.groups for module in model.modules() if isinstance(module, _TRANSPOSED)}
    return {name: owners[id(tensor)] for name, tensor in model.named_parameters() if id(tensor) in owners}


def _scaled(direction: Tensor, parameter: Tensor, groups: int | None) -> Tensor:
    if parameter.ndim < 2:
        return torch.zeros_like(direction)
    filters = _filters_first(direction, groups)
    own = torch.linalg.vector_norm(_filters_first(parameter, groups).flatten(1), dim=1)
    drawn = torch.linalg.vector_norm(filters.flatten(1), dim=1)
    factors = torch.where(drawn > 0, own / drawn, torch.zeros_like(own))
    scaled = filters * factors.reshape(-1, *[1] * (filters.ndim - 1))
    return _filters_back(scaled, groups, direction.shape)


def _filters_first(weight: Tensor, groups: int | None) -> Tensor:
    """(in, out/groups, …) of a transposed convolution as (groups · out/groups, in/groups, …); others as they are."""
    if groups is None:
        return weight
    split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return split.transpose(1, 2).reshape(groups * weight.shape[1], weight.shape[0] // groups, *weight.shape[2:])


def _filters_back(filters: Tensor, groups: int | None, shape: torch.Size) -> Tensor:
    if groups is None:
        return filters
    split = filters.reshape(groups, shape[1], shape[0] // groups, *shape[2:])
    return split.transpose(1, 2).reshape(shape)
