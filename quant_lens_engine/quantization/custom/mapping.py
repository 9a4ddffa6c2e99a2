"""A model that another library quantized: its dequantized weights under the float model's names."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.quantization.custom.folded_normalization import Unfolded, unfold_normalizations
from quant_lens_engine.quantization.custom.reading import NAMELESS, StoredTensor, Unmapped, read_model
from quant_lens_engine.quantization.layers import survey_weights
from quant_lens_engine.quantization.model_quantization import measure_rounding
from quant_lens_engine.quantization.variant import QuantizedLayer, QuantizedVariant
from quant_lens_engine.schema import SkippedLayer


def custom_variant(float_model: nn.Module, quantized_model: nn.Module, name: str) -> QuantizedVariant:
    """A variant from a model of the caller's own.

    Args:
        float_model: the model it was made from.
        quantized_model: from ``torch.ao.quantization`` (``quantize_dynamic``, eager or FX static quantization), torchao
            (``quantize_``, with any config; QAT, prepared or converted; PT2E, converted), or put together from their
            modules. It is kept, not copied, and not changed.
        name: what the variant is called.

    Returns:
        A variant whose ``own_model`` is ``quantized_model``. Where a batch normalisation was folded into a layer, the
        layer's weights are divided by γ/σ of the float model, which keeps its normalisation. Where weights cannot be
        found under the float model's names (other modules, other shapes), ``point`` is empty and ``unmapped`` says why:
        there is then no curvature and no landscape, but loss and accuracy are there. ``effective_bits`` counts a code
        of B bits as B bits, also where memory keeps each in a byte; ``notes`` say so.

    Raises:
        CheckpointError: ``non_finite_weights``: a dequantized weight is NaN or infinite.

    Example:
        >>> float_model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> import copy
        >>> variant = custom_variant(float_model, copy.deepcopy(float_model), "Copy")
        >>> sorted(variant.point), variant.quantized_layers
        (['0.bias', '0.weight', '2.bias', '2.weight'], 0)
    """
    try:
        own = read_model(quantized_model)
        unfolded = unfold_normalizations(float_model, own)
        stored = _map_parameters(float_model, own, unfolded)
        _require_equal_buffers(float_model, own, unfolded)
    except Unmapped as reason:
        return QuantizedVariant(name, None, {}, None, own_model=quantized_model, unmapped=str(reason))
    floats = dict(float_model.named_parameters())
    point = {key: item.value.detach().to(floats[key].device, floats[key].dtype) for key, item in stored.items()}
    _require_finite(point, name)
    layers = [
        _measure(float_model, key, item, floats[key], point[key]) for key, item in stored.items() if item.quantized
    ]
    count = sum(layer.parameters for layer in layers)
    return QuantizedVariant(
        name=name,
        recipe=None,
        point=point,
        requantize=None,
        own_model=quantized_model,
        layers=layers,
        skipped=_skipped(float_model, {layer.parameter for layer in layers}),
        effective_bits=sum(layer.bits * layer.parameters for layer in layers) / count if count else None,
        size_bytes=math.ceil(sum({item.source: item.bits for item in own.values()}.values()) / 8),
        quantized_layers=len({layer.parameter.rpartition(".")[0] for layer in layers}),
        notes=list(dict.fromkeys([*unfolded.notes, *(item.note for item in stored.values() if item.note)])),
    )


def _map_parameters(
    float_model: nn.Module, own: Mapping[str, StoredTensor], unfolded: Unfolded
) -> dict[str, StoredTensor]:
    parameters = dict(float_model.named_parameters())
    found = _all_named({**own, **unfolded.tensors}, parameters)
    missing = [name for name in parameters if name not in found]
    if missing:
        raise Unmapped(
            f"the custom model has no {_shown(missing)} (folded into another layer, or under another name), "
            "so its weights are no point among the float model's parameters"
        )
    modules = dict(float_model.named_modules(remove_duplicate=False))
    for name, parameter in parameters.items():
        item, expected = found[name], type(modules[name.rpartition(".")[0]])
        if item.value.shape != parameter.shape:
            raise Unmapped(
                f"{name} has the shape {tuple(item.value.shape)} in the custom model, "
                f"{tuple(parameter.shape)} in the float model"
            )
        if not item.quantized and item.owner not in (None, expected):
            raise Unmapped(
                f"{name} belongs to a {item.owner.__name__} in the custom model, a {expected.__name__} in the float "
                "model: what it computes with its float weights is not known"
            )
    _require_tied(float_model, found)
    return {name: found[name] for name in parameters}


def _all_named(found: Mapping[str, StoredTensor], parameters: Mapping[str, nn.Parameter]) -> dict[str, StoredTensor]:
    """Tensors that came without a name get that of the parameter of their shape which is by far the nearest."""
    named = {name: item for name, item in found.items() if NAMELESS not in name}
    for item in (item for name, item in found.items() if NAMELESS in name):
        value = item.value.double()
        distances = sorted(
            (float((parameter.detach().to(value) - value).norm()), name)
            for name, parameter in parameters.items()
            if name not in named and parameter.shape == value.shape
        )
        limits = [float(value.norm()) / 2, *(distance / 2 for distance, _ in distances[1:2])]
        if not distances or distances[0][0] > min(limits):
            raise Unmapped(
                f"a dequantized tensor of shape {tuple(value.shape)} in the custom model's graph belongs to no layer "
                "of the float model, and is near to none of its parameters"
            )
        named[distances[0][1]] = item
    return named


def _require_tied(float_model: nn.Module, found: Mapping[str, StoredTensor]) -> None:
    """What is one tensor in the float model must have one value in the custom model."""
    first: dict[nn.Parameter, str] = {}
    for name, parameter in float_model.named_parameters(remove_duplicate=False):
        known = first.setdefault(parameter, name)
        if known != name and name in found and not torch.equal(found[name].value, found[known].value):
            raise Unmapped(f"{known} and {name} are one tensor in the float model, and two in the custom model")


def _require_equal_buffers(float_model: nn.Module, own: Mapping[str, StoredTensor], unfolded: Unfolded) -> None:
    """Curvature runs in the float model, with its buffers: running statistics that differ would be ignored."""
    persistent = {key for key, value in float_model.state_dict().items() if isinstance(value, Tensor)}
    different = [
        name
        for name, buffer in float_model.named_buffers()
        if name in persistent
        and buffer.is_floating_point()
        and name.rpartition(".")[0] not in unfolded.normalizations
        and (name not in own or not torch.equal(own[name].value.to(buffer), buffer))
    ]
    if different:
        raise Unmapped(
            f"{_shown(different)} of the custom model differ from the float model's, or are not there: curvature is "
            "taken in the float model with its own statistics"
        )


def _require_finite(point: Mapping[str, Tensor], name: str) -> None:
    broken = [key for key, tensor in point.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise CheckpointError(
            f"the dequantized weights of {name!r} hold NaN or infinity in {_shown(broken)}",
            hint="quantize the model again, from finite weights",
            code="non_finite_weights",
            details={"tensors": broken},
        )


def _measure(
    float_model: nn.Module, parameter: str, stored: StoredTensor, weight: Tensor, value: Tensor
) -> QuantizedLayer:
    layer, _, key = parameter.rpartition(".")
    sqnr, error = measure_rounding(weight, value)
    return QuantizedLayer(
        name=layer if key == "weight" else parameter.removesuffix("_weight"),
        kind=type(float_model.get_submodule(layer)).__name__,
        parameter=parameter,
        parameters=weight.numel(),
        sqnr_db=sqnr,
        weight_mse=error,
        bits=stored.bits / weight.numel(),
    )


def _skipped(float_model: nn.Module, quantized: set[str]) -> list[SkippedLayer]:
    survey = survey_weights(float_model)
    owners = {name.rpartition(".")[0] for name in quantized}
    left = [site for site in survey.sites if site.parameter not in quantized]
    return [
        *(SkippedLayer(name=site.layer, reason="its weight is float in the custom model") for site in left),
        *(layer for layer in survey.skipped if layer.name not in owners),
    ]


def _shown(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
