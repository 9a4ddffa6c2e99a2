"""A plane with batch normalisation folded into the layers before it: the same losses from fewer operations.

Along directions that leave a normalisation alone (filter normalisation gives its vectors zero), its γ, β, μ and σ are
the same at every place, and W ↦ diag(γ/σ)·W, b ↦ (b − μ)·γ/σ + β is affine. So origin and axes are folded once, and a
place of the folded plane is the folded network of that place, but for rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from quant_lens_engine.filters import layout_of
from quant_lens_engine.landscape.plane_frame import PlaneFrame
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point

TOLERANCE = 1e-5
"""Largest relative change of the loss at the origin: what rounding explains. A plane that shows more is not folded."""

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class FoldedPlane:
    """A plane of the network without those normalisations.

    Attributes:
        frame: with the axes folded.
        network: the folded network, at the folded origin.
        unfolded: the network itself, at the plane's own origin.
        layers: name of each layer → name of the normalisation that is folded into it.
        change: of the loss at the origin, relative: measured.
    """

    frame: PlaneFrame
    network: Objective
    unfolded: Objective
    layers: Mapping[str, str]
    change: float

    def place(self, alpha: float, beta: float) -> Objective:
        """The loss at (α, β): a :data:`~quant_lens_engine.landscape.planes.PlaceOf`.

        The origin is measured unfolded: there the plane has the evaluated loss, digit for digit.
        """
        if alpha == beta == 0:
            return self.unfolded
        return self.network.at(self.frame.place(self.network.point, alpha, beta))

    @property
    def sentence(self) -> str:
        """For the record."""
        return (
            f"batch normalisation is folded into {len(self.layers)} layers, "
            f"which changes the loss at the origin by {self.change:.1e} of it"
        )


def folded_plane(frame: PlaneFrame, network: Objective, origin: Point) -> FoldedPlane | None:
    """The plane folded, where that is exact; None where it is not, or where there is nothing to fold.

    A layer is folded where torch.fx finds that a batch normalisation alone reads it, that both are called once, and
    that neither axis moves the normalisation. Weights of convolutions are laid out channels last, which their outputs
    follow. The whole is refused where the loss at the origin, measured both ways, changes by more than
    :data:`TOLERANCE`.

    Args:
        frame: of the plane.
        network: the loss to measure; activations must not be rounded.
        origin: where α = β = 0 is.

    Example:
        >>> from quant_lens_engine.landscape.distance import Reach
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        >>> network = Objective(model, [(torch.eye(2), torch.ones(2, 1))], task="regression")
        >>> axes = {"0.weight": torch.ones(3, 2)}, {"2.weight": torch.ones(1, 3)}
        >>> frame = PlaneFrame(("a", "b"), axes, ("", ""), False, [], Reach(1.0, ""))
        >>> folded_plane(frame, network, network.point).layers
        {'0': '1'}
    """
    if network.computation is not None or network.call.custom_forward is not None:
        return None
    layers = _foldable(network.model, frame.axes)
    if not layers:
        return None
    model = copy.deepcopy(network.model)
    folds = [_Fold(model, layer, norm) for layer, norm in layers.items()]
    point = dict(network.point | dict(origin))
    for fold in folds:
        fold.add_to(point)
        fold.remove(model)
    axes = [_folded_axis(axis, folds) for axis in frame.axes]
    unfolded = network.at(origin)
    folded = unfolded.of(model).at({name: point[name] for name, _ in model.named_parameters()})
    folded.point |= {name: _channels_last(tensor) for name, tensor in folded.point.items()}
    before, after = unfolded.loss(), folded.loss()
    change = abs(after - before) / max(abs(before), torch.finfo(torch.float32).tiny)
    if not change <= TOLERANCE:
        return None
    return FoldedPlane(replace(frame, axes=(axes[0], axes[1])), folded, unfolded, layers, change)


class _Fold:
    """One layer and the normalisation behind it."""

    def __init__(self, model: nn.Module, layer: str, norm: str) -> None:
        self.layer, self.norm = layer, norm
        module, normalization = model.get_submodule(layer), model.get_submodule(norm)
        assert isinstance(normalization.running_var, Tensor)
        assert isinstance(normalization.running_mean, Tensor)
        assert isinstance(normalization.eps, float)
        self.layout = layout_of(module, "weight")
        self.inverse_deviation = torch.rsqrt(normalization.running_var.double() + normalization.eps)
        self.mean = normalization.running_mean.double()
        self.factors = self.inverse_deviation

    def add_to(self, point: dict[str, Tensor]) -> None:
        """Replace the layer's and the normalisation's parameters by the folded ones."""
        gamma, beta = point.pop(f"{self.norm}.weight", None), point.pop(f"{self.norm}.bias", None)
        self.factors = self.inverse_deviation if gamma is None else self.inverse_deviation * gamma.double()
        weight, bias = point[f"{self.layer}.weight"], point.get(f"{self.layer}.bias")
        shifted = ((0.0 if bias is None else bias.double()) - self.mean) * self.factors
        shifted = shifted if beta is None else shifted + beta.double()
        point[f"{self.layer}.weight"] = self.scaled(weight)
        point[f"{self.layer}.bias"] = shifted.to(weight.dtype)

    def scaled(self, weight: Tensor) -> Tensor:
        """diag(γ/σ)·W."""
        rows = self.layout.rows(weight.double()) * self.factors[:, None]
        return self.layout.restore(rows, weight.shape).to(weight.dtype)

    def remove(self, model: nn.Module) -> None:
        """Take the normalisation out of the network, and give the layer a bias."""
        module = model.get_submodule(self.layer)
        weight = module.weight
        assert isinstance(weight, Tensor)
        module.bias = nn.Parameter(torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device))
        model.set_submodule(self.norm, nn.Identity())


def _folded_axis(axis: Mapping[str, Tensor], folds: Sequence[_Fold]) -> dict[str, Tensor]:
    moved = dict(axis)
    for fold in folds:
        weight, bias = f"{fold.layer}.weight", f"{fold.layer}.bias"
        if weight in moved:
            moved[weight] = fold.scaled(moved[weight])
        if bias in moved:
            moved[bias] = (moved[bias].double() * fold.factors).to(moved[bias].dtype)
        for own in ("weight", "bias"):
            moved.pop(f"{fold.norm}.{own}", None)
    return {name: _channels_last(tensor) for name, tensor in moved.items()}


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _foldable(model: nn.Module, axes: Sequence[Mapping[str, Tensor]]) -> dict[str, str]:
    """The layers whose output a normalisation alone reads that does not move; none where the path is not traced."""
    try:
        graph = fx.Tracer().trace(model)
    except Exception:  # whatever a model's own forward raises on a proxy
        return {}
    modules = dict(model.named_modules())
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    read = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
    shared = _shared(model)
    moving = {name for axis in axes for name, step in axis.items() if step.any()}
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


def _shared(model: nn.Module) -> set[str]:
    """Names of tied parameters."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for same in names.values() if len(same) > 1 for name in same}
