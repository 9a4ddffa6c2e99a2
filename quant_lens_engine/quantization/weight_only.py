"""Weight-only rounding to nearest (RTN): every weight of the layers that are quantized, nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.filters import FilterLayout
from quant_lens_engine.objective.model_call import check_finite_weights
from quant_lens_engine.quantization.blocks import round_trip, stored_bits
from quant_lens_engine.quantization.layers import WeightSite, survey_weights
from quant_lens_engine.quantization.variant import QuantizedLayer, QuantizedVariant
from quant_lens_engine.schema import FLOAT_VARIANT, QuantizationScheme, parse_scheme


@dataclass(frozen=True)
class WeightRounding:
    """w → Q(w) for the parameters of a model, with qparams observed anew at each call.

    Attributes:
        scheme: how.
        layouts: the parameters that are rounded, with their channels; all others pass through.
    """

    scheme: QuantizationScheme
    layouts: Mapping[str, FilterLayout]

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Any subset of the parameters, rounded; same keys, shapes, dtypes and devices."""
        return {
            name: round_trip(tensor, self.scheme, self.layouts[name]) if name in self.layouts else tensor
            for name, tensor in weights.items()
        }


def quantize(model: nn.Module, scheme: str | QuantizationScheme) -> QuantizedVariant:
    """``model`` with its weights rounded to ``scheme``. The model itself is not touched.

    Args:
        model: a float model on any device; frozen and tied parameters are rounded like others.
        scheme: a name such as ``"int4-g128"``, or a scheme.

    Raises:
        SchemeError: an unknown scheme, or ``nothing_to_quantize``: no layer of the model has a weight to round.
        CheckpointError: ``non_finite_weights``, naming the tensors.

    Example:
        >>> variant = quantize(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), "int4")
        >>> variant.quantized_layers, sorted(variant.point)
        (2, ['0.bias', '0.weight', '2.bias', '2.weight'])
        >>> variant.effective_bits  # 4, and an fp32 scale for every 8 or 4 weights
        8.8
    """
    parsed = parse_scheme(scheme)
    check_finite_weights(model)
    survey = survey_weights(model)
    if not survey.sites:
        listed = "; ".join(f"{item.name}: {item.reason}" for item in survey.skipped[:5])
        raise SchemeError(
            "no layer of this model has a weight that can be rounded",
            hint=f"quantized are Linear, convolutions, Embedding and attention. {listed}".strip(),
            code="nothing_to_quantize",
        )
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    requantize = WeightRounding(parsed, {site.parameter: site.layout for site in survey.sites})
    point = requantize(weights)
    layers = [_measure(site, parsed, weights[site.parameter], point[site.parameter]) for site in survey.sites]
    bits = sum(layer.bits * layer.parameters for layer in layers)
    count = sum(layer.parameters for layer in layers)
    float_bytes = sum(weights[layer.parameter].nbytes for layer in layers)
    return QuantizedVariant(
        name=parsed.name,
        scheme=parsed,
        point=point,
        requantize=requantize,
        layers=layers,
        skipped=survey.skipped,
        effective_bits=bits / count,
        size_bytes=model_bytes(model) - float_bytes + math.ceil(bits / 8),
        quantized_layers=survey.layers,
    )


def float_variant(model: nn.Module) -> QuantizedVariant:
    """The float model itself as the variant ``FP32``: the baseline of every comparison.

    Raises:
        CheckpointError: ``non_finite_weights``, naming the tensors.

    Example:
        >>> float_variant(nn.Linear(4, 2).half()).effective_bits
        16.0
    """
    check_finite_weights(model)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    sites = [weights[site.parameter] for site in survey_weights(model).sites] or list(weights.values())
    count = sum(weight.numel() for weight in sites)
    return QuantizedVariant(
        name=FLOAT_VARIANT,
        scheme=None,
        point=weights,
        requantize=None,
        effective_bits=8 * sum(weight.nbytes for weight in sites) / count if count else None,
        size_bytes=model_bytes(model),
    )


def model_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers as they are; tied tensors once.

    Example:
        >>> model_bytes(nn.Linear(3, 2))
        32
    """
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def measure_rounding(weight: Tensor, rounded: Tensor) -> tuple[float | None, float]:
    """SQNR in dB (None where the weight is zero or nothing was lost) and the mean squared error, in float64.

    Example:
        >>> import torch
        >>> measure_rounding(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
        (20.0, 0.125)
    """
    signal = float(weight.detach().double().square().sum())
    noise = float((weight.detach().double() - rounded.detach().double()).square().sum())
    sqnr = 10 * math.log10(signal / noise) if signal and noise else None
    return sqnr, noise / max(weight.numel(), 1)


def _measure(site: WeightSite, scheme: QuantizationScheme, weight: Tensor, rounded: Tensor) -> QuantizedLayer:
    channels, elements = site.layout.rows(weight).shape
    sqnr, error = measure_rounding(weight, rounded)
    return QuantizedLayer(
        name=site.layer,
        kind=site.kind,
        parameter=site.parameter,
        parameters=weight.numel(),
        sqnr_db=sqnr,
        weight_mse=error,
        bits=stored_bits(channels, elements, scheme) / weight.numel(),
    )
