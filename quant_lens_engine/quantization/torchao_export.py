"""A scheme as the torchao configuration of the same definition.

::

    intB-full, intB-gN-full-fp32scales, B = 2 to 7        IntxWeightOnlyConfig, MappingType.SYMMETRIC
    intB-asym, intB-gN-asym-fp32scales                    IntxWeightOnlyConfig, MappingType.ASYMMETRIC
    int8-full, -tensor, -gN-fp32scales                    Int8WeightOnlyConfig
    int8-full-act-int8-full-dynamic, -int8-asym-dynamic   Int8DynamicActivationInt8WeightConfig
    intB-…-act-int8-asym-dynamic                          Int8DynamicActivationIntxWeightConfig
    int8-full-act-int8, -int8-full (calibrated)           Int8StaticActivationInt8WeightConfig, one a layer
    fp8-e4m3, fp8-e5m2, -tensor, -gN-fp32scales           Float8WeightOnlyConfig
    w8a8-fp8-dynamic, all per tensor, or in blocks        Float8DynamicActivationFloat8WeightConfig
    w8a8-fp8-tensor (calibrated)                          Float8StaticActivationFloat8WeightConfig, one a layer
    w4a4-mxfp4, w8a8-mxfp8-e4m3 …                         MXDynamicActivationMXWeightConfig, FLOOR
    nvfp4, w4a4-nvfp4-dynamic, w4a4-nvfp4                 NVFP4WeightOnlyConfig, NVFP4DynamicActivationNVFP4WeightConfig

The narrow range (intB alone) is one that torchao has not. In all of these the dequantized weights of a float32 model
agree to the bit (MX: of a bfloat16 model; torchao takes no other). Where torchao's arithmetic is another although the
definition is the same, it is known how:

* fp16 scales (``-gN`` without ``-fp32scales``): the scales agree, but torchao multiplies with a reciprocal rounded to
  fp16, and takes zero points from scales before they are rounded: near an edge between two codes it takes the other
  one (about one weight in a hundred at 8 bits), and a group whose scale is below 2^-16 is lost, for its reciprocal is
  infinite.
* ``Int8…`` configurations take no scale below 2^-23; ours go down to 2^-126. Rows below 1.5e-5 are coarser there.
* float8: a channel of zeros becomes NaN in torchao, and so does a tensor of zeros in NVFP4.
* Weights in bfloat16 or float16: torchao computes the integer formats' scales in that dtype, we in float32.
* A dynamic scale a tensor is one a batch in torchao, and one a row of the batch here: they agree at batch size 1.
"""

from __future__ import annotations

from typing import Any

from quant_lens_engine.errors import InputError, SchemeError
from quant_lens_engine.quantization.torchao_twins import NoTwin, twin
from quant_lens_engine.quantization.variant import QuantizedVariant
from quant_lens_engine.schema import QuantizationScheme, parse_scheme

_STEPS = 12
"""Changes that may lie between a scheme and the nearest one that torchao has."""


def torchao_config(
    scheme: str | QuantizationScheme, calibrated: QuantizedVariant | None = None, *, emulated: bool = True
) -> Any:
    """The configuration for torchao's ``quantize_`` that means the same as ``scheme``; for linear layers.

    Args:
        scheme: a name, or a scheme.
        calibrated: where activations have static ranges, the variant that knows them, made by ``quantize`` without
            further algorithms: torchao wants one configuration a layer. NVFP4 needs none; torchao observes there
            itself (its configuration is the first of two steps, ``"prepare"``).
        emulated: MX computes on any device, by dequantized matrices, and NVFP4 without its Triton kernel; False for the
            kernels of a Blackwell GPU (which NVFP4 with rounded activations needs in any case).

    Returns:
        A torchao configuration object; with ``calibrated``, a ``FqnToConfig`` over the linear layers that are rounded,
        for ``quantize_(model, config, filter_fn=None)``.

    Raises:
        SchemeError: ``no_torchao_config``, saying which part has no counterpart and which scheme is nearest (also in
            ``details``); ``needs_calibration``; ``unknown_scheme``.
        InputError: ``torchao_not_installed``.

    Example:
        >>> torchao_config("int4-full-g32-fp32scales").granularity
        PerGroup(group_size=32)
        >>> try:
        ...     torchao_config("int4-g128")
        ... except SchemeError as error:
        ...     print(error.message, error.hint, sep="; ")
        torchao has no configuration for int4-g128: its range is narrow; the nearest that it has is int4-g128-full
    """
    parsed = parse_scheme(scheme)
    _require_torchao()
    try:
        return twin(parsed, calibrated, emulated=emulated)
    except NoTwin as missing:
        nearest = _nearest(missing.instead)
        raise SchemeError(
            f"torchao has no configuration for {parsed.name}: {missing.part}",
            hint=f"the nearest that it has is {nearest}",
            code="no_torchao_config",
            details={"scheme": parsed.name, "part": missing.part, "nearest": nearest},
        ) from None


def _nearest(scheme: QuantizationScheme) -> str:
    for _ in range(_STEPS):
        try:
            twin(scheme)
        except NoTwin as missing:
            scheme = missing.instead
        except SchemeError:  # it is there, for a calibrated variant
            break
        else:
            break
    return scheme.name


def _require_torchao() -> None:
    try:
        import torchao.quantization  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"torchao cannot be imported here: {error}",
            hint="pip install torchao (it comes with the extra dev), in a version that fits the installed torch",
            code="torchao_not_installed",
        ) from error
