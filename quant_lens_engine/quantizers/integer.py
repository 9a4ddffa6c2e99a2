"""Integer codes with one scale a block: B = 2 to 8 or 16 bits, symmetric or affine, round half to even.

    symmetric, narrow range    scale = amax / (2^(B−1) − 1)     codes −(2^(B−1) − 1) … 2^(B−1) − 1
    symmetric, full range      scale = amax / ((2^B − 1) / 2)   codes −2^(B−1) … 2^(B−1) − 1
    asymmetric                 scale = (max − min) / (2^B − 1)  codes 0 … 2^B − 1, min ≤ 0 ≤ max, so 0 is a code

On U[−1, 1] the signal-to-noise ratio is 20·log10(2^B − 2) dB for the first and 20·log10(2^B − 1) dB for the others.
A code is round(x · (1/scale)) + zero_point, the reciprocal rounded to the precision of x, and the zero point is
round(−min/scale), as deployed kernels compute them (torchao's ``quantize_affine``, ``choose_qparams_affine``): on the
edge between two codes a division and a multiplication can fall to two sides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quant_lens_engine.quantizers import QUANTIZERS, NumberFormat, QParams, Range, StoredBits
from quant_lens_engine.quantizers._scales import SCALE_BITS, scale_in_words, stored_scale

if TYPE_CHECKING:
    from torch import Tensor

_OFFERED = (
    "int8", "int6", "int5", "int4", "int3", "int2", "int16",
    "int8-tensor", "int4-tensor", "int8-asym", "int4-asym", "int8-full", "int4-full",
    "int8-g128", "int4-g128", "int4-g64", "int4-g32", "int3-g128", "int2-g64", "int4-g128-asym",
)  # fmt: skip


class IntegerQuantizer:
    """Uniform integer codes."""

    family = "integer"
    stem = re.compile(r"int(?P<bits>[0-9]+)")
    defaults: Mapping[str, Any] = {}

    def fields(self, match: re.Match[str]) -> dict[str, Any]:
        """The number of bits, one that there is."""
        bits = int(match["bits"])
        _refuse_width(bits)
        return {"bits": bits}

    def stem_of(self, fmt: NumberFormat) -> str:
        """``int4``."""
        return f"int{fmt.bits}"

    def check(self, fmt: NumberFormat) -> None:
        """2 to 8 bits or 16; an asymmetric format has no narrow range, a scale of e4m3 belongs to NVFP4."""
        _refuse_width(fmt.bits)
        if not fmt.symmetric and fmt.full_range:
            raise ValueError("-asym clashes with -full: asymmetric schemes always use the full range")
        if fmt.scale_dtype == "e4m3":
            raise ValueError("scales of e4m3 need a second scale a tensor, which integers do not have: see nvfp4")

    def offered(self) -> Sequence[str]:
        """The widths and granularities that deployment toolchains have."""
        return _OFFERED

    def describe(self, fmt: NumberFormat) -> str:
        """For example ``INT4, symmetric; scale = amax / 7``."""
        if not fmt.symmetric:
            kind, formula = "asymmetric", f"(max − min) / {2**fmt.bits - 1} with min ≤ 0 ≤ max"
        elif fmt.full_range:
            kind, formula = "symmetric, full range", f"amax / {(2**fmt.bits - 1) / 2}"
        else:
            kind, formula = "symmetric", f"amax / {2 ** (fmt.bits - 1) - 1}"
        return f"INT{fmt.bits}, {kind}; {scale_in_words(formula, fmt.scale_dtype)}"

    def stored_bits(self, fmt: NumberFormat) -> StoredBits:
        """B an element; a block stores its scale and, if asymmetric, a zero point of B bits."""
        return StoredBits(fmt.bits, SCALE_BITS[fmt.scale_dtype] + (0 if fmt.symmetric else fmt.bits))

    def qparams(self, span: Range, fmt: NumberFormat, whole: Range | None = None) -> QParams:  # noqa: ARG002
        """By the formulas above, with the scale rounded as it is stored before any code is chosen."""
        if fmt.symmetric:
            steps = (2**fmt.bits - 1) / 2 if fmt.full_range else 2 ** (fmt.bits - 1) - 1
            return QParams(stored_scale(span.amax / steps, fmt.scale_dtype))
        low, high, top = span.low.clamp(max=0), span.high.clamp(min=0), 2**fmt.bits - 1
        width = high - low
        # where high − low overflows, the two halves apart; elsewhere the formula as it is written, to the last bit
        scale = stored_scale((width / top).where(width.isfinite(), high / top - low / top), fmt.scale_dtype)
        return QParams(scale, (-low / scale).round().clamp(0, top))

    def encode(self, blocks: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:
        """Round half to even, then clip."""
        codes = (blocks * qparams.inverse).round_()
        if qparams.zero_point is not None:
            return codes.add_(qparams.zero_point).clamp(0, 2**fmt.bits - 1)
        low, high = _codes(fmt)
        return codes.clamp(low, high)

    def decode(self, codes: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:  # noqa: ARG002
        """(code − zero_point) · scale, rounded once."""
        centred = codes if qparams.zero_point is None else codes - qparams.zero_point
        return centred * qparams.scale

    def edges(self, qparams: QParams, fmt: NumberFormat) -> Range:
        """Half a step beyond the first and the last code."""
        low, high = _codes(fmt)
        zero = 0 if qparams.zero_point is None else qparams.zero_point
        return Range((low - 0.5 - zero) * qparams.scale, (high + 0.5 - zero) * qparams.scale)


def _refuse_width(bits: int) -> None:
    if not (2 <= bits <= 8 or bits == 16):
        raise ValueError(f"int{bits}: integer schemes have 2 to 8 bits, or 16")


def _codes(fmt: NumberFormat) -> tuple[int, int]:
    if not fmt.symmetric:
        return 0, 2**fmt.bits - 1
    highest = 2 ** (fmt.bits - 1) - 1
    return (-highest - 1 if fmt.full_range else -highest), highest


QUANTIZERS.add("integer", IntegerQuantizer())
