"""A model that another library quantized: its dequantized weights under the float model's names.

``torch.ao.quantization`` (dynamic; static where nothing was folded) keeps packed weights in modules of its own,
torchao keeps tensor subclasses in the modules of the float model. Both give back their weights in float. Loss and
accuracy come from the model itself; curvature and the smooth landscape need a point among the float model's
parameters, which is what is looked for here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.quantization.layers import survey_weights
from quant_lens_engine.quantization.model_quantization import measure_rounding
from quant_lens_engine.quantization.variant import QuantizedLayer, QuantizedVariant
from quant_lens_engine.schema import SkippedLayer

_PACKED_MODULES = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")


@dataclass(frozen=True)
class _StoredTensor:
    """A tensor of the custom model: its value in float, what it takes in memory, and whether it is quantized."""

    value: Tensor
    bits: float
    quantized: bool


class _Unmapped(Exception):  # noqa: N818  (a finding, caught in this file)
    """The custom model has no point among the float model's parameters, and why."""


def custom_variant(float_model: nn.Module, quantized_model: nn.Module, name: str) -> QuantizedVariant:
    """A variant from a model of the caller's own.

    Args:
        float_model: the model it was made from.
        quantized_model: for example from ``torch.ao.quantization.quantize_dynamic`` or torchao's ``quantize_``. It is
            kept, not copied, and not changed.
        name: what the variant is called.

    Returns:
        A variant whose ``own_model`` is ``quantized_model``. Where its weights cannot be found under the float model's
        names (folded normalisation, other modules, other shapes), ``point`` is empty and ``unmapped`` says why: there
        is then no curvature and no landscape, but loss and accuracy are there.

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
        stored = _map_parameters(float_model, quantized_model)
        _require_equal_buffers(float_model, quantized_model)
    except _Unmapped as reason:
        return QuantizedVariant(name, None, {}, None, own_model=quantized_model, unmapped=str(reason))
    floats = dict(float_model.named_parameters())
    point = {key: item.value.detach().to(floats[key].device, floats[key].dtype) for key, item in stored.items()}
    _require_finite(point, name)
    layers = [
        _measure(float_model, key, item, floats[key], point[key]) for key, item in stored.items() if item.quantized
    ]
    count = sum(layer.parameters for layer in layers)
    total_bits = sum(item.bits for item in stored.values())
    return QuantizedVariant(
        name=name,
        recipe=None,
        point=point,
        requantize=None,
        own_model=quantized_model,
        layers=layers,
        skipped=_skipped(float_model, {layer.parameter for layer in layers}),
        effective_bits=sum(layer.bits * layer.parameters for layer in layers) / count if count else None,
        size_bytes=math.ceil(total_bits / 8) + sum(buffer.nbytes for buffer in quantized_model.buffers()),
        quantized_layers=len({layer.parameter.rpartition(".")[0] for layer in layers}),
    )


def _map_parameters(float_model: nn.Module, quantized_model: nn.Module) -> dict[str, _StoredTensor]:
    own = {
        f"{prefix}.{key}" if prefix else key: (module, tensor)
        for prefix, module in quantized_model.named_modules(remove_duplicate=False)
        for key, tensor in _tensors_of(module)
    }
    float_modules = dict(float_model.named_modules(remove_duplicate=False))
    missing = [name for name, _ in float_model.named_parameters() if name not in own]
    if missing:
        raise _Unmapped(
            f"the custom model has no {_shown(missing)} (folded into another layer, or under another name), "
            "so its weights are no point among the float model's parameters"
        )
    stored: dict[str, _StoredTensor] = {}
    for name, parameter in float_model.named_parameters():
        module, tensor = own[name]
        item = _stored(module, tensor)
        if item.value.shape != parameter.shape:
            raise _Unmapped(
                f"{name} has the shape {tuple(item.value.shape)} in the custom model, "
                f"{tuple(parameter.shape)} in the float model"
            )
        expected = type(float_modules[name.rpartition(".")[0]])
        if not item.quantized and type(module) is not expected and not _is_packed(module):
            raise _Unmapped(
                f"{name} belongs to a {type(module).__name__} in the custom model, a {expected.__name__} in the float "
                "model: what it computes with its float weights is not known"
            )
        stored[name] = item
    return stored


def _tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own tensors by the names that its float counterpart gives them."""
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)
    if not _is_packed(module):
        return
    for accessor, name in (("weight", "weight"), ("bias", "bias"), ("get_weight", ""), ("get_bias", "")):
        method: Callable[[], object] | None = getattr(module, accessor, None)
        value = method() if callable(method) else None
        if isinstance(value, Tensor):
            yield name or accessor.removeprefix("get_"), value
        elif isinstance(value, Mapping):
            yield from value.items()


def _stored(module: nn.Module, tensor: Tensor) -> _StoredTensor:
    if tensor.is_quantized:
        scales = tensor.q_per_channel_scales().numel() if "channel" in str(tensor.qscheme()) else 1
        bits = 8 * tensor.element_size()
        return _StoredTensor(tensor.dequantize(), tensor.numel() * bits + scales * (32 + bits), quantized=True)
    if hasattr(tensor, "__tensor_flatten__"):
        return _StoredTensor(tensor.dequantize(), _flattened_bits(tensor), quantized=True)
    if _is_packed(module) and tensor.dim() >= 2:  # torch's float16 dynamic layers hand their weight out in float32
        return _StoredTensor(tensor, 16 * tensor.numel(), quantized=True)
    return _StoredTensor(tensor, 8 * tensor.nbytes, quantized=False)


def _flattened_bits(tensor: Tensor) -> float:
    """Bits of a tensor subclass: those of the plain tensors it is made of."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return 8 * tensor.nbytes
    parts = [getattr(tensor, part) for part in tensor.__tensor_flatten__()[0]]
    return sum(_flattened_bits(part) for part in parts if isinstance(part, Tensor))


def _is_packed(module: nn.Module) -> bool:
    return type(module).__module__.startswith(_PACKED_MODULES)


def _require_equal_buffers(float_model: nn.Module, quantized_model: nn.Module) -> None:
    """Curvature runs in the float model, with its buffers: running statistics that differ would be ignored."""
    own = dict(quantized_model.named_buffers())
    persistent = {key for key, value in float_model.state_dict().items() if isinstance(value, Tensor)}
    different = [
        name
        for name, buffer in float_model.named_buffers()
        if name in persistent
        and buffer.is_floating_point()
        and (name not in own or not torch.equal(own[name].to(buffer), buffer))
    ]
    if different:
        raise _Unmapped(
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
    float_model: nn.Module, parameter: str, stored: _StoredTensor, weight: Tensor, value: Tensor
) -> QuantizedLayer:
    layer, _, key = parameter.rpartition(".")
    sqnr, error = measure_rounding(weight, value)
    return QuantizedLayer(
        name=layer if key == "weight" else parameter,
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
