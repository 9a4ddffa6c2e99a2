"""Which weights of a network are rounded, which are not, and why."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.filters import FilterLayout, is_columns_linear, is_expert_tensor, layout_of
from quant_lens_engine.schema import LayerChoice, SkippedLayer

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONVOLUTIONS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
ENDS = ("first", "head")
"""Patterns that mean the layer that runs first, and the one that runs last."""

_ONE_WEIGHT = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, *EMBEDDINGS)
_ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_EVERY_LAYER = LayerChoice()


@dataclass(frozen=True)
class WeightSite:
    """One weight tensor to round, and the layer it belongs to.

    Attributes:
        layer: the layer's name (``in_proj`` and the like appended where a layer has several).
        module: the name of the module that owns it, in ``named_modules()``.
        kind: the module's class.
        parameter: the weight's name in ``named_parameters()``.
        layout: its channels.
    """

    layer: str
    module: str
    kind: str
    parameter: str
    layout: FilterLayout


@dataclass(frozen=True)
class WeightSurvey:
    """What :func:`survey_weights` found.

    Attributes:
        sites: each tensor to round, once; of tied layers the first that is no embedding stands for all.
        modules: names of the modules that compute with those tensors; tied ones each.
        skipped: layers with weights that stay in float.
    """

    sites: list[WeightSite]
    modules: list[str]
    skipped: list[SkippedLayer]

    @property
    def layers(self) -> int:
        """How many layers compute with rounded weights."""
        return len(self.modules)


def survey_weights(
    model: nn.Module, choice: LayerChoice = _EVERY_LAYER, order: Sequence[str] | None = None
) -> WeightSurvey:
    """Every weight of ``model`` that a scheme rounds, in the order of ``named_modules()``.

    Args:
        model: any module.
        choice: which layers; a tensor that a chosen and a skipped layer share stays in float.
        order: names of modules in the order in which they run, for ``first`` and ``head``; None: as they are named.

    Raises:
        SchemeError: ``no_such_layer``: a pattern of the choice matches none.

    Example:
        >>> survey = survey_weights(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
        >>> [site.parameter for site in survey.sites], survey.skipped[0].reason
        (['0.weight'], 'BatchNorm1d has only vectors (scales and shifts), which stay in float')
    """
    first_names = {parameter: name for name, parameter in model.named_parameters()}
    sites: list[WeightSite] = []
    unquantized: list[SkippedLayer] = []
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        rounded = [key for key in quantized_parameters(module) if key in own and _can_be_rounded(own[key])]
        for key in rounded:
            label = name if key == "weight" else ".".join(filter(None, (name, key.removesuffix("_weight"))))
            layout = layout_of(module, key)
            sites.append(WeightSite(label, name, type(module).__name__, first_names[own[key]], layout))
        left = {key: value for key, value in own.items() if key not in rounded}
        unquantized += [
            SkippedLayer(name=name or "(model)", reason=reason) for reason in _reasons(module, left, rounded)
        ]
    lookups = {name for name, module in model.named_modules() if isinstance(module, EMBEDDINGS)}
    return _chosen(sites, unquantized, choice, order, lookups)


def quantized_parameters(module: nn.Module) -> tuple[str, ...]:
    """The names of a module's own parameters that are rounded. An attention's out_proj is a Linear of its own."""
    if isinstance(module, _ONE_WEIGHT) or is_columns_linear(module):
        return ("weight",)
    if isinstance(module, nn.MultiheadAttention):
        return _ATTENTION_WEIGHTS
    own = [name for name, _ in module.named_parameters(recurse=False)]
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return tuple(name for name in own if name.startswith("weight_"))
    return tuple(name for name in own if is_expert_tensor(module, name))


def _chosen(
    sites: list[WeightSite], unquantized: list[SkippedLayer], choice: LayerChoice, order: Sequence[str] | None,
    lookups: Collection[str],
) -> WeightSurvey:  # fmt: skip
    ends = _ends(sites, order)
    _require_matches(sites, ends, choice)
    reasons: dict[str, str] = {}
    for site in sites:
        skipping = next((pattern for pattern in choice.skip if _matches(site, pattern, ends)), None)
        if skipping is not None:
            reasons[site.layer] = f"left in float by +skip:{skipping}"
        elif choice.only and not any(_matches(site, pattern, ends) for pattern in choice.only):
            reasons[site.layer] = "left in float: it is not among +only:" + ":".join(choice.only)
    floating = {site.parameter for site in sites if site.layer in reasons}
    kept: dict[str, WeightSite] = {}
    for site in sites:
        if site.parameter in floating:
            reasons.setdefault(site.layer, "left in float: it shares its weight with a layer that was skipped")
        elif site.parameter not in kept or kept[site.parameter].module in lookups:
            kept.pop(site.parameter, None)  # of tied layers the first that multiplies: it has inputs, and a bias
            kept[site.parameter] = site
    skipped = [SkippedLayer(name=name, reason=reason) for name, reason in reasons.items()] + unquantized
    modules = dict.fromkeys(site.module for site in sites if site.parameter in kept)
    return WeightSurvey(list(kept.values()), list(modules), skipped)


def _ends(sites: list[WeightSite], order: Sequence[str] | None) -> dict[str, str]:
    """The layers that ``first`` and ``head`` mean."""
    if not sites:
        return {}
    places = {name: place for place, name in enumerate(order or ())}
    owners = {site.module for site in sites}

    def ended(site: WeightSite) -> int | None:
        """A module that its owner calls by function (attention's out_proj) runs when the owner does."""
        owner = site.module.rpartition(".")[0]
        return places.get(site.module, places.get(owner) if owner in owners else None)

    ran = [(place, site) for site in sites if (place := ended(site)) is not None]
    ordered = [site for _, site in sorted(ran, key=lambda pair: pair[0])] or sites
    return dict(zip(ENDS, (ordered[0].module, ordered[-1].module), strict=True))


def _matches(site: WeightSite, pattern: str, ends: dict[str, str]) -> bool:
    if pattern in ends:
        return site.module == ends[pattern]
    if pattern.startswith("kind."):
        return fnmatchcase(site.kind, pattern.removeprefix("kind."))
    return fnmatchcase(site.layer, pattern) or fnmatchcase(site.module, pattern)


def _require_matches(sites: list[WeightSite], ends: dict[str, str], choice: LayerChoice) -> None:
    for pattern in (*choice.only, *choice.skip):
        if not any(_matches(site, pattern, ends) for site in sites):
            names = [site.layer for site in sites] + [f"kind.{site.kind}" for site in sites]
            near = difflib.get_close_matches(pattern, names, n=3) or list(dict.fromkeys(names))[:3]
            raise SchemeError(
                f"no layer with weights matches {pattern!r}",
                hint=f"such as {', '.join(near)}, a pattern with *, kind.Linear, first or head",
                code="no_such_layer",
                details={"pattern": pattern, "layers": [site.layer for site in sites]},
            )


def _can_be_rounded(weight: nn.Parameter) -> bool:
    return type(weight) is nn.Parameter and weight.is_floating_point() and weight.numel() > 0


def _reasons(module: nn.Module, left: dict[str, nn.Parameter], rounded: list[str]) -> Iterator[str]:
    kind = type(module).__name__
    if _is_parametrized(module):
        yield f"the weight of {kind} is computed from other parameters (a parametrization)"
        return
    if rounded or not left:
        return
    if any(key in left for key in quantized_parameters(module)):
        yield f"the weight of {kind} is empty, or already quantized"
    elif _owner_is_parametrized(module):
        return
    elif all(tensor.dim() < 2 for tensor in left.values()):
        yield f"{kind} has only vectors (scales and shifts), which stay in float"
    else:
        names = ", ".join(key for key, tensor in left.items() if tensor.dim() >= 2)
        yield f"no quantizer for {names} of {kind}"


def _is_parametrized(module: nn.Module) -> bool:
    return bool(quantized_parameters(module)) and hasattr(module, "parametrizations")


def _owner_is_parametrized(module: nn.Module) -> bool:
    return type(module).__name__ == "ParametrizationList"
