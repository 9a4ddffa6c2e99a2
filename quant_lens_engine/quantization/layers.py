"""Which weights of a network are rounded, which are not, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from quant_lens_engine.filters import FilterLayout, layout_of
from quant_lens_engine.schema import SkippedLayer

_WEIGHTS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("weight",),
    nn.Conv1d: ("weight",),
    nn.Conv2d: ("weight",),
    nn.Conv3d: ("weight",),
    nn.ConvTranspose1d: ("weight",),
    nn.ConvTranspose2d: ("weight",),
    nn.ConvTranspose3d: ("weight",),
    nn.Embedding: ("weight",),
    nn.MultiheadAttention: ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
}
"""The parameters that each kind of layer has rounded. An attention's out_proj is a Linear of its own."""


@dataclass(frozen=True)
class WeightSite:
    """One weight tensor to round, and the layer it belongs to.

    Attributes:
        layer: the layer's name (``in_proj`` and the like appended for attention).
        kind: the layer's class.
        parameter: the weight's name in ``named_parameters()``.
        layout: its channels.
    """

    layer: str
    kind: str
    parameter: str
    layout: FilterLayout


@dataclass(frozen=True)
class WeightSurvey:
    """What :func:`survey_weights` found.

    Attributes:
        sites: each tensor to round, once.
        layers: how many layers compute with those tensors (tied ones count each).
        skipped: layers with weights that stay in float.
    """

    sites: list[WeightSite]
    layers: int
    skipped: list[SkippedLayer]


def survey_weights(model: nn.Module) -> WeightSurvey:
    """Every weight of ``model`` that a weight-only scheme rounds, in the order of ``named_modules()``.

    Example:
        >>> survey = survey_weights(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
        >>> [site.parameter for site in survey.sites], survey.skipped[0].reason
        (['0.weight'], 'BatchNorm1d has only vectors (scales and shifts), which stay in float')
    """
    first_names = {parameter: name for name, parameter in model.named_parameters()}
    sites: dict[str, WeightSite] = {}
    skipped: list[SkippedLayer] = []
    layers = 0
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        rounded = [key for key in _quantized_parameters(module) if key in own and _can_be_rounded(own[key])]
        layers += bool(rounded)
        for key in rounded:
            parameter = first_names[own[key]]
            label = name if key == "weight" else ".".join(filter(None, (name, key.removesuffix("_weight"))))
            site = WeightSite(label, type(module).__name__, parameter, layout_of(module, key))
            sites.setdefault(parameter, site)
        left = {key: value for key, value in own.items() if key not in rounded}
        skipped += [SkippedLayer(name=name or "(model)", reason=reason) for reason in _reasons(module, left, rounded)]
    return WeightSurvey(list(sites.values()), layers, skipped)


def _quantized_parameters(module: nn.Module) -> tuple[str, ...]:
    for kind, names in _WEIGHTS.items():
        if isinstance(module, kind):
            return names
    return ()


def _can_be_rounded(weight: nn.Parameter) -> bool:
    return type(weight) is nn.Parameter and weight.is_floating_point() and weight.numel() > 0


def _reasons(module: nn.Module, left: dict[str, nn.Parameter], rounded: list[str]) -> Iterator[str]:
    kind = type(module).__name__
    if _is_parametrized(module):
        yield f"the weight of {kind} is computed from other parameters (a parametrization)"
        return
    if rounded or not left:
        return
    if any(key in left for key in _quantized_parameters(module)):
        yield f"the weight of {kind} is empty, or already quantized"
    elif _owner_is_parametrized(module):
        return
    elif all(tensor.dim() < 2 for tensor in left.values()):
        yield f"{kind} has only vectors (scales and shifts), which stay in float"
    else:
        names = ", ".join(key for key, tensor in left.items() if tensor.dim() >= 2)
        yield f"no quantizer for {names} of {kind}"


def _is_parametrized(module: nn.Module) -> bool:
    return bool(_quantized_parameters(module)) and hasattr(module, "parametrizations")


def _owner_is_parametrized(module: nn.Module) -> bool:
    return type(module).__name__ == "ParametrizationList"
