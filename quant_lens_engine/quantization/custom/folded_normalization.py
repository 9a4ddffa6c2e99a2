"""Batch normalisation that was folded into the layer before it, taken out again.

A deployed layer computes W'x + b' with W' = diag(γ/σ)·W and b' = (b − μ)·γ/σ + β. The float model keeps its
normalisation, so the point among its parameters is W = diag(γ/σ)⁻¹·W', and its own b, γ, β. Libraries keep b' in float:
where it agrees with the float model's, nothing else moves. Where it does not (a network that was trained further, say),
the difference goes into β, or into b where there is no β, so that the float model at the point computes W'x + b' again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.filters import layout_of
from quant_lens_engine.quantization.algorithms.batchnorm_folding import channel_factors
from quant_lens_engine.quantization.custom.reading import StoredTensor, Unmapped
from quant_lens_engine.quantization.layer_chains import BATCH_NORMS, find_chains
from quant_lens_engine.quantization.layers import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS

TOLERANCE = 1e-4
"""Largest difference of two folded biases that agree, in parts of what they are the sum of."""

_BEFORE = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)


@dataclass
class Unfolded:
    """What became of folded normalisations.

    Attributes:
        tensors: of the layers and their normalisations, as they are in the float model's coordinates.
        normalizations: names of those that the custom model has no more.
        notes: what a reader should know, in sentences.
    """

    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    normalizations: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def unfold_normalizations(model: nn.Module, own: Mapping[str, StoredTensor]) -> Unfolded:
    """The folded layers of a custom model in the coordinates of the float model.

    Args:
        model: the float model.
        own: what the custom model stores, by name.

    Raises:
        Unmapped: the layer that a normalisation went into is not found, or cannot be brought back.

    Example:
        >>> from torch.nn.utils.fusion import fuse_linear_bn_eval
        >>> from quant_lens_engine.quantization.custom.reading import read_model
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval()
        >>> folded = nn.Sequential(fuse_linear_bn_eval(model[0], model[1]), nn.Identity())
        >>> unfolded = unfold_normalizations(model, read_model(folded))
        >>> sorted(unfolded.tensors)
        ['0.bias', '0.weight', '1.bias', '1.weight']
        >>> torch.allclose(unfolded.tensors["0.weight"].value.float(), model[0].weight)
        True
    """
    unfolded = Unfolded()
    missing = [
        name
        for name, module in model.named_modules()
        if isinstance(module, BATCH_NORMS)
        and isinstance(module.running_var, Tensor)
        and not any(f"{name}.{key}" in own for key in ("weight", "bias", "running_mean", "running_var"))
    ]
    if not missing:
        return unfolded
    pairs, traced = _layers_before(model, missing)
    moved = {}
    for normalization in missing:
        layer = pairs.get(normalization)
        if layer is None:
            raise Unmapped(
                f"the custom model has no {normalization}, and no layer of the float model is known that it could have "
                "been folded into alone"
            )
        if f"{layer}.weight" not in own:
            continue  # the layer itself is missing: that is said where names are compared
        difference = _unfold(model, layer, normalization, own, unfolded)
        if difference > TOLERANCE:
            moved[layer] = difference
    if moved and not traced:
        raise Unmapped(
            f"the network cannot be traced, and the biases of {', '.join(moved)} are not those of a layer with the "
            "normalisation behind it folded in: which layer feeds which is not known"
        )
    unfolded.notes += _notes(missing, moved)
    return unfolded


def _layers_before(model: nn.Module, normalizations: list[str]) -> tuple[dict[str, str], bool]:
    """Each normalisation's layer, and whether that is known from a trace or guessed from the order of names."""
    layers = {name for name, module in model.named_modules() if isinstance(module, _BEFORE)}
    try:
        chains = find_chains(model, layers, "taking a folded normalisation out")
        return {chain.normalization: chain.first for chain in chains if chain.normalization is not None}, True
    except SchemeError:
        before: dict[str, str] = {}
        last: str | None = None
        for name, _ in model.named_modules():
            if name in layers:
                last = name
            elif name in normalizations and last is not None:
                before[name], last = last, None
        return before, False


def _unfold(
    model: nn.Module, layer: str, normalization: str, own: Mapping[str, StoredTensor], unfolded: Unfolded
) -> float:
    """Bring one layer back, and say how far the bias is from the float model's, in parts of its terms."""
    module, norm = model.get_submodule(layer), model.get_submodule(normalization)
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    factors = channel_factors(model, normalization)
    weight = module.get_parameter("weight")
    stored = own[f"{layer}.weight"]
    if stored.value.shape != weight.shape or len(factors) != len(layout_of(module, "weight").rows(weight)):
        raise Unmapped(f"{layer}.weight has the shape {tuple(stored.value.shape)} in the custom model")
    if not stored.quantized and stored.owner not in (None, type(module)):
        raise Unmapped(f"{layer} is a {stored.owner.__name__} in the custom model, with float weights")
    value = _divided(stored.value, factors, _switched_off(norm), module)
    bias = _Bias.of(module, norm, own.get(f"{layer}.bias"), factors)
    unfolded.normalizations.add(normalization)
    unfolded.tensors[f"{layer}.weight"] = replace(stored, value=value, owner=None)
    kept = {layer: module, normalization: norm}
    for name, owner in kept.items():
        for key, parameter in owner.named_parameters(recurse=False):
            if (name, key) != (layer, "weight"):
                unfolded.tensors[f"{name}.{key}"] = StoredTensor(parameter.detach(), 0, quantized=False)
    if bias.distance > TOLERANCE:
        _move_bias(layer, normalization, bias, factors, unfolded)
    return bias.distance


@dataclass(frozen=True)
class _Bias:
    """A folded bias: how far it is from the float model's ``(channels,)``, and that in parts of its terms."""

    difference: Tensor
    distance: float

    @classmethod
    def of(cls, layer: nn.Module, norm: nn.Module, stored: StoredTensor | None, factors: Tensor) -> _Bias:
        mean, shift = norm.get_buffer("running_mean").double(), _vector(norm, "bias", factors)
        slope = torch.where(_switched_off(norm), torch.zeros_like(factors), factors)
        parts = _vector(layer, "bias", factors) * slope, mean.to(factors) * slope, shift
        expected = parts[0] - parts[1] + parts[2]
        found = torch.zeros_like(expected) if stored is None else stored.value.detach().to(expected)
        size = sum((part.abs() for part in parts), torch.zeros_like(expected)).clamp(min=float(expected.abs().max()))
        difference = found - expected
        largest = float((difference.abs() / size.clamp(min=1e-30)).max())
        return cls(difference, largest if bool(difference.any()) else 0.0)


def _move_bias(layer: str, normalization: str, bias: _Bias, factors: Tensor, unfolded: Unfolded) -> None:
    for name, difference in ((f"{normalization}.bias", bias.difference), (f"{layer}.bias", bias.difference / factors)):
        known = unfolded.tensors.get(name)
        if known is not None:
            value = (known.value.double() + difference.to(known.value.device)).to(known.value.dtype)
            unfolded.tensors[name] = replace(known, value=value)
            return
    raise Unmapped(f"{layer} has a bias in the custom model that neither it nor {normalization} has in the float model")


def _divided(weight: Tensor, factors: Tensor, off: Tensor, module: nn.Module) -> Tensor:
    """diag(factors)⁻¹ · W'; where the normalisation switches a channel off, the float model's own weights."""
    layout = layout_of(module, "weight")
    rows = layout.rows(weight.detach().double().to(factors.device)) / factors[:, None]
    if bool(off.any()):
        if bool(rows[off].any()):
            raise Unmapped("a channel that the float model's normalisation switches off has weights: γ is 0 there")
        own = layout.rows(module.get_parameter("weight").detach().double())
        rows = torch.where(off[:, None], own, rows)
    restored: Tensor = layout.restore(rows, weight.shape)
    if not bool(torch.isfinite(restored.to(module.get_parameter("weight").dtype)).all()):
        raise Unmapped("γ/σ of a folded normalisation is so small that the weights before it overflow")
    return restored


def _switched_off(norm: nn.Module) -> Tensor:
    """Channels whose γ is 0."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert isinstance(norm.running_var, Tensor)
    return torch.zeros_like(norm.running_var, dtype=torch.bool) if norm.weight is None else norm.weight.detach() == 0


def _vector(module: nn.Module, key: str, like: Tensor) -> Tensor:
    value = getattr(module, key, None)
    return value.detach().to(like) if isinstance(value, Tensor) else torch.zeros_like(like)


def _notes(normalizations: list[str], moved: Mapping[str, float]) -> list[str]:
    notes = [
        f"folded batch normalisation ({', '.join(normalizations)}): the weights before it are divided by γ/σ of the "
        "float model, which keeps its normalisation"
    ]
    if moved:
        notes.append(
            f"the folded biases of {', '.join(moved)} differ from the float model's by up to "
            f"{max(moved.values()):.1e} of their terms: the difference is in the normalisation's shift, or the bias"
        )
    return notes
