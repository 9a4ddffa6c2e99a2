"""Integer codes with one scale a block: B = 2 to 8 or 16 bits, symmetric or affine, round half to even.

    symmetric, narrow range    scale = amax / (2^(B−1) − 1)     codes −(2^(B−1) − 1) … 2^(B−1) − 1
    symmetric, full range      scale = amax / ((2^B − 1) / 2)   codes −2^(B−1) … 2^(B−1) − 1
    asymmetric                 scale = (max − min) / (2^B − 1)  codes 0 … 2^B − 1, min ≤ 0 ≤ max, so 0 is a code

On U[−1, 1] the signal-to-noise ratio is 20·log10(2^B − 2) dB for the first and 20·log10(2^B − 1) dB for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quant_lens_engine.quantization.quantizers import QUANTIZERS, QParams
from quant_lens_engine.schema import QuantizationScheme, parse_scheme

if TYPE_CHECKING:
    from torch import Tensor

_OFFERED = (
    "int8", "int6", "int5", "int4", "int3", "int2", "int16",
    "int8-tensor", "int4-tensor", "int8-asym", "int4-asym", "int8-full", "int4-full",
    "int8-g128", "int4-g128", "int4-g64", "int4-g32", "int3-g128", "int2-g64", "int4-g128-asym",
)  # fmt: skip

_SCALE_LIMITS = {"float16": (2.0**-24, 65504.0), "float32": (2.0**-149, (2 - 2.0**-23) * 2.0**127)}
"""Smallest and largest positive number of each dtype: no scale underflows to 0 or overflows."""


class IntegerQuantizer:
    """Uniform integer codes."""

    description = "integer codes, uniform steps"

    def offered(self) -> Sequence[QuantizationScheme]:
        """The widths and granularities that deployment toolchains have."""
        return [parse_scheme(name) for name in _OFFERED]

    def describe(self, scheme: QuantizationScheme) -> str:
        """For example ``INT4 weights, symmetric, one fp16 scale for 128 weights; scale = amax / 7``."""
        shared = {
            "tensor": "one scale a tensor",
            "channel": "one scale a channel",
            "group": f"one fp16 scale for {scheme.group_size} weights",
        }[scheme.granularity]
        if not scheme.symmetric:
            kind, formula = "asymmetric", f"(max − min) / {2**scheme.bits - 1}"
        elif scheme.full_range:
            kind, formula = "symmetric, full range", f"amax / {(2**scheme.bits - 1) / 2}"
        else:
            kind, formula = "symmetric", f"amax / {2 ** (scheme.bits - 1) - 1}"
        return f"INT{scheme.bits} weights, {kind}, {shared}; scale = {formula}"

    def observe(self, blocks: Tensor, scheme: QuantizationScheme) -> QParams:
        """Min-max, with the scale rounded to ``scheme.scale_dtype`` before any code is chosen."""
        if scheme.symmetric:
            steps = (2**scheme.bits - 1) / 2 if scheme.full_range else 2 ** (scheme.bits - 1) - 1
            return QParams(_stored_scale(blocks.abs().amax(-1, keepdim=True) / steps, scheme))
        low = blocks.amin(-1, keepdim=True).clamp(max=0)
        high = blocks.amax(-1, keepdim=True).clamp(min=0)
        top = 2**scheme.bits - 1
        scale = _stored_scale((high - low) / top, scheme)
        return QParams(scale, (-low / scale).round().clamp(0, top))

    def encode(self, blocks: Tensor, qparams: QParams, scheme: QuantizationScheme) -> Tensor:
        """Round half to even, then clip."""
        codes = (blocks / qparams.scale).round()
        if qparams.zero_point is not None:
            return (codes + qparams.zero_point).clamp(0, 2**scheme.bits - 1)
        highest = 2 ** (scheme.bits - 1) - 1
        return codes.clamp(-highest - 1 if scheme.full_range else -highest, highest)

    def decode(self, codes: Tensor, qparams: QParams) -> Tensor:
        """(code − zero_point) · scale; exact in float64, for a code and a scale have 40 bits together."""
        centred = codes if qparams.zero_point is None else codes - qparams.zero_point
        return centred * qparams.scale

    def stored_bits(self, scheme: QuantizationScheme) -> tuple[float, float]:
        """B a weight; a block stores its scale and, if asymmetric, a zero point of B bits."""
        scale = 16 if scheme.scale_dtype == "float16" else 32
        return scheme.bits, scale + (0 if scheme.symmetric else scheme.bits)


def _stored_scale(scale: Tensor, scheme: QuantizationScheme) -> Tensor:
    smallest, largest = _SCALE_LIMITS[scheme.scale_dtype]
    bounded = scale.clamp(smallest, largest)
    rounded = bounded.half() if scheme.scale_dtype == "float16" else bounded.float()
    return rounded.double()


QUANTIZERS.add("integer", IntegerQuantizer())
