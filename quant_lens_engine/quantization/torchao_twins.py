"""The torchao configuration of each number format, and which parts of a scheme have none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.quantization.variant import QuantizedVariant
from quant_lens_engine.schema import ActivationFormat, QuantizationScheme, parse_scheme

_FLOAT8 = {"fp8-e4m3": torch.float8_e4m3fn, "fp8-e5m2": torch.float8_e5m2}
_MX: dict[str, torch.dtype | str] = {
    "mxfp4": torch.float4_e2m1fn_x2, "mxfp6-e2m3": "fp6_e2m3", "mxfp6-e3m2": "fp6_e3m2",
    "mxfp8-e4m3": torch.float8_e4m3fn, "mxfp8-e5m2": torch.float8_e5m2,
}  # fmt: skip


class NoTwin(Exception):  # noqa: N818  (a finding, caught in torchao_export.py)
    """A part of a scheme has no counterpart; the scheme without it."""

    def __init__(self, part: str, instead: QuantizationScheme) -> None:
        super().__init__(part)
        self.part, self.instead = part, instead


def twin(scheme: QuantizationScheme, calibrated: QuantizedVariant | None = None, *, emulated: bool = True) -> Any:
    """The configuration; see :func:`quant_lens_engine.quantization.torchao_export.torchao_config`.

    Raises:
        NoTwin: torchao has none.
        SchemeError: ``needs_calibration``; ``no_torchao_config`` for another variant than the scheme's own.
    """
    if scheme.attention:
        raise NoTwin("it rounds what attention multiplies", _changed(scheme, attention=False))
    if scheme.kv is not None:
        raise NoTwin("it rounds keys and values", _changed(scheme, kv=None))
    if scheme.format == "nvfp4":
        return _nvfp4(scheme, emulated)
    if scheme.format in _MX or scheme.format == "mxint8":
        return _microscaling(scheme, emulated)
    if scheme.format in _FLOAT8:
        return _float8(scheme, calibrated)
    if scheme.format == "integer":
        return _integer(scheme, calibrated)
    group = f"-g{scheme.group_size}" if scheme.group_size else ""
    if scheme.format == "float":
        raise NoTwin("its weights stay in float", _rebuilt("int8-full", scheme.activations))
    raise NoTwin(f"torchao rounds to no codebook ({scheme.stem})", _rebuilt(f"int4-full{group}", scheme.activations))


def _integer(scheme: QuantizationScheme, calibrated: QuantizedVariant | None) -> Any:
    """Integer weights, and integer activations or none."""
    if scheme.bits > 8:
        raise NoTwin(f"its codes have {scheme.bits} bits", _changed(scheme, bits=8))
    if scheme.granularity == "block":
        raise NoTwin("one scale serves a square tile", _changed(scheme, granularity="group"))
    if scheme.scale_dtype == "e8m0":
        raise NoTwin("its scales are powers of two", _changed(scheme, scale_dtype="float32"))
    if scheme.symmetric and not scheme.full_range:
        raise NoTwin("its range is narrow", _changed(scheme, full_range=True))
    plain = scheme.bits == 8 and scheme.symmetric and scheme.scale_dtype == "float32"
    if scheme.granularity == "tensor" and not plain:
        raise NoTwin(
            "one scale serves a whole tensor, which torchao has at 8 bits, symmetric, with fp32 scales alone",
            _changed(scheme, granularity="channel"),
        )
    if scheme.activations is None:
        return _integer_weights(scheme, plain)
    return _integer_activations(scheme, scheme.activations, plain, calibrated)


def _integer_weights(scheme: QuantizationScheme, plain: bool) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig

    if plain:
        return Int8WeightOnlyConfig(granularity=_granularity(scheme))
    return IntxWeightOnlyConfig(
        weight_dtype=getattr(torch, f"int{scheme.bits}"),
        granularity=_axis_granularity(scheme),
        mapping_type=_mapping(scheme),
        scale_dtype=torch.float16 if scheme.scale_dtype == "float16" else None,
    )


def _integer_activations(
    scheme: QuantizationScheme, inputs: ActivationFormat, plain: bool, calibrated: QuantizedVariant | None
) -> Any:
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig,
        Int8DynamicActivationIntxWeightConfig,
        Int8StaticActivationInt8WeightConfig,
    )

    asymmetric = ActivationFormat(bits=8, granularity="token", dynamic=True, symmetric=False)
    if inputs.format != "integer" or inputs.bits != 8 or inputs.granularity == "group":
        raise NoTwin(f"its activations are {inputs.name} under integer weights", _rebuilt_as(scheme, asymmetric))
    if inputs.scale_dtype != "float32":
        raise NoTwin("scales of activations are not fp32", _rebuilt_as(scheme, _with_fp32_scales(inputs)))
    if inputs.symmetric and not inputs.full_range:
        raise NoTwin("its activations have a narrow range", _rebuilt_as(scheme, _full(inputs)))
    rows = scheme.granularity != "group"
    if plain and rows:
        shared = {"act_mapping_type": _mapping(inputs), "granularity": [_granularity(inputs), _granularity(scheme)]}
        if inputs.dynamic:
            return Int8DynamicActivationInt8WeightConfig(**shared)
        return _by_layer(scheme, calibrated, Int8StaticActivationInt8WeightConfig, version=2, **shared)
    if inputs != asymmetric:
        raise NoTwin(f"its activations are {inputs.name}, with weights of {scheme.weights_only().name}",
                      _rebuilt_as(scheme, asymmetric))  # fmt: skip
    return Int8DynamicActivationIntxWeightConfig(
        weight_dtype=getattr(torch, f"int{scheme.bits}"),
        weight_granularity=_axis_granularity(scheme),
        weight_mapping_type=_mapping(scheme),
        weight_scale_dtype=torch.float16 if scheme.scale_dtype == "float16" else None,
    )


def _float8(scheme: QuantizationScheme, calibrated: QuantizedVariant | None) -> Any:
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Float8StaticActivationFloat8WeightConfig,
        Float8WeightOnlyConfig,
        PerTensor,
    )

    inputs = scheme.activations
    if scheme.scale_dtype != "float32":
        raise NoTwin("its scales are not fp32", _changed(scheme, scale_dtype="float32"))
    if inputs is None and scheme.granularity == "block":
        raise NoTwin("one scale serves a square tile", _changed(scheme, granularity="group"))
    weights = {"weight_dtype": _FLOAT8[scheme.format]}
    if inputs is None:
        return Float8WeightOnlyConfig(**weights, granularity=_granularity(scheme))
    if inputs.format not in _FLOAT8 or inputs.scale_dtype != "float32":
        raise NoTwin(f"its activations are {inputs.name}", _rebuilt("fp8-e4m3-act-fp8-e4m3-dynamic"))
    types = weights | {"activation_dtype": _FLOAT8[inputs.format]}
    if inputs.dynamic and _same_shape(scheme, inputs):
        return Float8DynamicActivationFloat8WeightConfig(
            **types, granularity=[_granularity(inputs), _granularity(scheme)]
        )
    if not inputs.dynamic and scheme.granularity == "tensor":
        return _by_layer(scheme, calibrated, Float8StaticActivationFloat8WeightConfig, **types, granularity=PerTensor())
    stem = (
        f"{scheme.stem}-tensor-act-{inputs.stem}" if not inputs.dynamic else f"{scheme.stem}-act-{inputs.stem}-dynamic"
    )
    raise NoTwin("weights and activations have scales of other shapes", _rebuilt(stem))


def _microscaling(scheme: QuantizationScheme, emulated: bool) -> Any:
    from torchao.prototype.mx_formats import MXDynamicActivationMXWeightConfig
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.quantization.quantize_.common import KernelPreference

    if scheme.format not in _MX:
        raise NoTwin("torchao has no MXINT8", _rebuilt("w8a8-mxfp8-e4m3"))
    inputs = scheme.activations
    if inputs is None or inputs.format != scheme.format:
        part = "its activations stay in float" if inputs is None else f"its activations are {inputs.name}"
        raise NoTwin(f"{part}, and torchao has MX for both alike", _rebuilt(f"{scheme.stem}-act-{scheme.stem}"))
    element = _MX[scheme.format]
    return MXDynamicActivationMXWeightConfig(
        weight_dtype=element,
        activation_dtype=element,
        scaling_mode=ScaleCalculationMode.FLOOR,
        kernel_preference=KernelPreference.EMULATED if emulated else KernelPreference.AUTO,
    )


def _nvfp4(scheme: QuantizationScheme, emulated: bool) -> Any:
    from torchao.prototype.mx_formats import NVFP4DynamicActivationNVFP4WeightConfig, NVFP4WeightOnlyConfig

    inputs = scheme.activations
    if inputs is None:
        return NVFP4WeightOnlyConfig()
    if inputs.format != "nvfp4":
        raise NoTwin(f"its activations are {inputs.name}", _rebuilt("w4a4-nvfp4-dynamic"))
    if inputs.dynamic:
        return NVFP4DynamicActivationNVFP4WeightConfig(use_triton_kernel=not emulated)
    if inputs.observer != "min-max":
        raise NoTwin(f"its ranges are chosen by {inputs.observer}", _rebuilt("w4a4-nvfp4"))
    return NVFP4DynamicActivationNVFP4WeightConfig(use_triton_kernel=not emulated, step="prepare")


def _by_layer(scheme: QuantizationScheme, calibrated: QuantizedVariant | None, kind: Any, **options: Any) -> Any:
    """One configuration a layer, with the range that calibration has found there."""
    from torchao.quantization import FqnToConfig

    if calibrated is None or calibrated.forward is None:
        raise SchemeError(
            f"torchao wants the activation ranges of {scheme.name} for each layer, and they are not known yet",
            hint=f"torchao_config({scheme.name!r}, quantize(model, {scheme.name!r}, rows))",
            code="needs_calibration",
        )
    if calibrated.scheme != scheme or (calibrated.recipe is not None and calibrated.recipe.algorithms):
        raise SchemeError(
            f"{calibrated.name} is not {scheme.name} rounded to nearest: torchao would round to other codes",
            hint=f"give quantize(model, {scheme.name!r}, rows)",
            code="no_torchao_config",
        )
    configs = {}
    linear = {layer.name for layer in calibrated.layers if layer.kind == "Linear"}
    for name, quantizer in calibrated.forward.quantizers.items():
        qparams = quantizer.qparams
        if qparams is None or name not in linear:
            continue
        shape = (1,) * quantizer.axes
        given: dict[str, Tensor] = {"act_quant_scale": qparams.scale.float().reshape(shape)}
        if qparams.zero_point is not None:  # ours count from 0, torchao's from −128
            given["act_quant_zero_point"] = (qparams.zero_point - 128).to(torch.int8).reshape(shape)
        configs[name] = kind(**options, **given)
    return FqnToConfig(configs)


def _mapping(fmt: QuantizationScheme | ActivationFormat) -> Any:
    from torchao.quantization import MappingType

    return MappingType.SYMMETRIC if fmt.symmetric else MappingType.ASYMMETRIC


def _granularity(fmt: QuantizationScheme | ActivationFormat) -> Any:
    from torchao.quantization import PerBlock, PerGroup, PerRow, PerTensor

    if fmt.granularity == "block":
        return PerBlock([fmt.group_size, fmt.group_size])
    if fmt.granularity == "group":
        return PerBlock([1, fmt.group_size]) if isinstance(fmt, ActivationFormat) else PerGroup(fmt.group_size)
    return PerTensor() if fmt.granularity == "tensor" else PerRow()


def _axis_granularity(scheme: QuantizationScheme) -> Any:
    from torchao.quantization import PerAxis, PerGroup

    return PerGroup(scheme.group_size) if scheme.granularity == "group" else PerAxis(0)


def _same_shape(scheme: QuantizationScheme, inputs: ActivationFormat) -> bool:
    """Whether torchao's float8 product takes weights and activations of these granularities."""
    shapes = (scheme.granularity, scheme.group_size, inputs.granularity, inputs.group_size)
    return shapes in (
        ("channel", None, "token", None), ("tensor", None, "tensor", None), ("block", 128, "group", 128),
    )  # fmt: skip


def _changed(scheme: QuantizationScheme, **fields: Any) -> QuantizationScheme:
    return QuantizationScheme.model_validate(scheme.model_dump() | fields)


def _rebuilt(name: str, activations: ActivationFormat | None = None) -> QuantizationScheme:
    scheme = parse_scheme(name)
    return scheme if activations is None else _rebuilt_as(scheme, activations)


def _rebuilt_as(scheme: QuantizationScheme, activations: ActivationFormat) -> QuantizationScheme:
    return _changed(scheme, activations=activations.model_dump())


def _full(inputs: ActivationFormat) -> ActivationFormat:
    return ActivationFormat.model_validate(inputs.model_dump() | {"full_range": True})


def _with_fp32_scales(inputs: ActivationFormat) -> ActivationFormat:
    return ActivationFormat.model_validate(inputs.model_dump() | {"scale_dtype": "float32"})
