"""FP8 elements after Micikevicius et al. 2022 (arXiv:2209.05433), one scale a channel, tensor, group or square block.

    scale = amax / largest, with largest = 448 (e4m3) or 57344 (e5m2); round half to even, saturating

``-b128`` has one scale for each 128 × 128 tile of the matrix (DeepSeek-V3, arXiv:2412.19437).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from quant_lens_engine.quantizers import QUANTIZERS, NumberFormat, QParams, Range, StoredBits
from quant_lens_engine.quantizers._elements import ElementCodes
from quant_lens_engine.quantizers._minifloat import E4M3, E5M2, Minifloat
from quant_lens_engine.quantizers._scales import SCALE_BITS, scale_in_words, stored_scale


class Float8Quantizer(ElementCodes):
    """Eight-bit floating point with a scale."""

    family = "float"
    defaults: Mapping[str, Any] = {"bits": 8}

    def __init__(self, element: Minifloat, offered: Sequence[str]) -> None:
        super().__init__(element)
        self.stem = re.compile(re.escape(f"fp8-{element.name}"))
        self._offered = offered

    def fields(self, match: re.Match[str]) -> dict[str, Any]:  # noqa: ARG002
        """The name's beginning says the format, nothing else."""
        return {}

    def stem_of(self, fmt: NumberFormat) -> str:
        """``fp8-e4m3``."""
        return fmt.format

    def check(self, fmt: NumberFormat) -> None:
        """Floats are symmetric and eight bits wide."""
        refuse_integer_flags(fmt, 8)
        if fmt.scale_dtype == "e4m3":
            raise ValueError(f"{fmt.format} has scales of fp32, fp16 or e8m0; scales of e4m3 belong to nvfp4")

    def offered(self) -> Sequence[str]:
        """What deployment toolchains have."""
        return self._offered

    def describe(self, fmt: NumberFormat) -> str:
        """For example ``FP8 E4M3; fp32 scale = amax / 448``."""
        scale = scale_in_words(f"amax / {self.element.largest:g}", fmt.scale_dtype)
        return f"FP8 {self.element.name.upper()}; {scale}"

    def stored_bits(self, fmt: NumberFormat) -> StoredBits:
        """Eight, and a scale a block."""
        return StoredBits(8, SCALE_BITS[fmt.scale_dtype])

    def qparams(self, span: Range, fmt: NumberFormat, whole: Range | None = None) -> QParams:  # noqa: ARG002
        """The largest magnitude becomes the largest element."""
        return QParams(stored_scale(span.amax / self.element.largest, fmt.scale_dtype))


def refuse_integer_flags(fmt: NumberFormat, bits: int) -> None:
    """Raise ValueError where a format of fixed width, without zero points, is asked for another."""
    if fmt.bits != bits:
        raise ValueError(f"{fmt.format} has {bits} bits, not {fmt.bits}")
    if not fmt.symmetric:
        raise ValueError(f"-asym clashes with {fmt.format}, whose elements have a sign and no zero point")
    if fmt.full_range:
        raise ValueError(f"-full clashes with {fmt.format}: full and narrow range are those of integers")


QUANTIZERS.add("fp8-e4m3", Float8Quantizer(E4M3, ("fp8-e4m3", "fp8-e4m3-tensor", "fp8-e4m3-b128")))
QUANTIZERS.add("fp8-e5m2", Float8Quantizer(E5M2, ("fp8-e5m2", "fp8-e5m2-tensor")))
