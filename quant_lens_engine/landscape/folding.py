"""Batch normalisation folded into the layers before it: the same function from fewer operations.

Along directions that leave a normalisation alone (filter normalisation gives its vectors zero), its γ, β, μ and σ are
the same at every place, and W ↦ diag(γ/σ)·W, b ↦ (b − μ)·γ/σ + β is one map for all of them. It is applied to each
place as the place is made, so that neither origin nor directions are ever held folded.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from quant_lens_engine.landscape.surroundings import RowMap
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.tied_parameters import tied_parameters

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Folding:
    """A network without the normalisations that could be folded into their layers.

    Attributes:
        network: the network without them. Its parameters are the origin's own, unfolded, for a place to be made from;
            where a layer has no bias of its own, the folded one.
        layers: name of each layer → name of the normalisation that is folded into it.
        rows: what becomes of the parameters of a place, by name.
    """

    def __init__(self, network: Objective, origin: Point, layers: Mapping[str, str]) -> None:
        tensors = [*network.model.parameters(), *network.model.buffers()]
        model = copy.deepcopy(network.model, {id(tensor): tensor for tensor in tensors})  # of the structure alone
        self.layers = layers
        self.rows: dict[str, RowMap] = {}
        point = dict(network.point | dict(origin))
        for layer, norm in layers.items():
            _fold(model, layer, norm, point, self.rows)
        self.network = network.of(model).at({name: point[name] for name, _ in model.named_parameters()})


def folded(network: Objective, origin: Point, directions: Sequence[Mapping[str, Tensor]]) -> Folding | None:
    """The network folded; None where there is nothing to fold.

    A layer is folded where torch.fx finds that a batch normalisation alone reads it, that both are called once, and
    that no direction moves the normalisation.

    Args:
        network: the loss to measure; activations must not be rounded.
        origin: where the folded network stands.
        directions: that it will be moved along.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        >>> network = Objective(model, [(torch.eye(2), torch.ones(2, 1))], task="regression")
        >>> folded(network, network.point, [{"0.weight": torch.ones(3, 2)}]).layers
        {'0': '1'}
    """
    layers = _foldable(network.model, directions)
    return Folding(network, origin, layers) if layers else None


def _fold(model: nn.Module, layer: str, norm: str, point: dict[str, Tensor], rows: dict[str, RowMap]) -> None:
    """Take a normalisation out of the network, and give its layer a bias; ``point`` loses its γ and β, ``rows`` gains
    diag(γ/σ)·W and (b − μ)·γ/σ + β."""
    normalization, module = model.get_submodule(norm), model.get_submodule(layer)
    assert isinstance(normalization.running_var, Tensor)
    assert isinstance(normalization.running_mean, Tensor)
    assert isinstance(normalization.eps, float)
    gamma, beta = point.pop(f"{norm}.weight", None), point.pop(f"{norm}.bias", None)
    factors = torch.rsqrt(normalization.running_var.double() + normalization.eps)
    factors = factors if gamma is None else factors * gamma.double()
    offsets = -normalization.running_mean.double() * factors
    offsets = offsets if beta is None else offsets + beta.double()
    weight, bias = point[f"{layer}.weight"], f"{layer}.bias"
    rows[f"{layer}.weight"] = RowMap(factors)
    if bias in point:
        rows[bias] = RowMap(factors, offsets)
    else:
        point[bias] = offsets.to(weight.dtype)
        module.bias = nn.Parameter(torch.zeros_like(point[bias]))
    model.set_submodule(norm, nn.Identity())


def _foldable(model: nn.Module, directions: Sequence[Mapping[str, Tensor]]) -> dict[str, str]:
    """The layers whose output a normalisation alone reads that does not move; none where the path is not traced."""
    try:
        graph = fx.Tracer().trace(model)
    except Exception:  # whatever a model's own forward raises on a proxy
        return {}
    modules = dict(model.named_modules())
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    read = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
    parameters = dict(model.named_parameters())
    shared = {name for names in tied_parameters(model) for name in names}
    moving = {name for steps in directions for name, step in steps.items() if step.any()}
    found = {}
    for node in graph.nodes:
        if node.op != "call_module" or len(node.users) != 1:
            continue
        layer, reader = str(node.target), next(iter(node.users))
        norm = str(reader.target)
        if reader.op != "call_module" or called.count(layer) != 1 or called.count(norm) != 1:
            continue
        first, second = modules[layer], modules[norm]
        own = {f"{name}.{part}" for name in (layer, norm) for part in ("weight", "bias")}
        if (
            type(first) in _LAYERS
            and f"{layer}.weight" in parameters  # weight_norm makes it anew in each pass
            and not _is_hooked(first)
            and not _is_hooked(second)
            and type(second) in _NORMS
            and second.running_var is not None
            and not second.training
            and first.weight.shape[0] == second.num_features
            and not own & shared
            and not own & set(read)
            and not {name for name, _ in second.named_parameters(norm)} & moving
        ):
            found[layer] = norm
    return found


def _is_hooked(module: nn.Module) -> bool:
    """Whether something else happens when it is called."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
