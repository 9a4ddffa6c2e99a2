"""OCP Microscaling (MX) v1.0: blocks of 32 consecutive elements that share a power of two (e8m0).

    scale = 2^(⌊log2 amax⌋ − emax), with emax the exponent of the element's largest power of two; elements round half to
    even and saturate (§6.3 of the specification), so the block's largest magnitude may be clipped.

Elements: FP4 e2m1 (emax 2), FP6 e2m3 (2) and e3m2 (4), FP8 e4m3 (8) and e5m2 (15), and INT8: a two's complement integer
times 2^-6 (emax 0), whose −2 is left unused, as §5.3.4 allows, so that it is symmetric.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quant_lens_engine.quantizers import QUANTIZERS, NumberFormat, QParams, Range, StoredBits
from quant_lens_engine.quantizers._elements import Element, ElementCodes
from quant_lens_engine.quantizers._minifloat import E2M1, E2M3, E3M2, E4M3, E5M2
from quant_lens_engine.quantizers._scales import power_of_two_below
from quant_lens_engine.quantizers.float8 import refuse_integer_flags

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 32


class _Int8Element:
    """k · 2^-6, k = −127 … 127."""

    name = "int8"
    largest = 127 / 64
    top_power = 0
    edge = 127.5 / 64

    def nearest(self, values: Tensor) -> Tensor:
        """Round half to even, saturating."""
        return (values * 64).round_().clamp(-127, 127).div_(64)


class MicroscalingQuantizer(ElementCodes):
    """Elements under a shared power of two."""

    family = "block"

    def __init__(self, name: str, element: Element, bits: int) -> None:
        super().__init__(element)
        self.bits = bits
        self._name = name
        self.stem = re.compile(re.escape(name))
        self.defaults: Mapping[str, Any] = {
            "bits": bits, "granularity": "group", "group_size": BLOCK, "scale_dtype": "e8m0",
        }  # fmt: skip

    def fields(self, match: re.Match[str]) -> dict[str, Any]:  # noqa: ARG002
        """The name says all of it."""
        return {}

    def stem_of(self, fmt: NumberFormat) -> str:
        """``mxfp4``."""
        return fmt.format

    def check(self, fmt: NumberFormat) -> None:
        """Block and scale are the standard's."""
        refuse_integer_flags(fmt, self.bits)
        if (fmt.granularity, fmt.group_size) != ("group", BLOCK):
            raise ValueError(f"{fmt.format} has blocks of {BLOCK}, and no other")
        if fmt.scale_dtype != "e8m0":
            raise ValueError(f"{fmt.format} has scales of e8m0, and no other")

    def offered(self) -> Sequence[str]:
        """One scheme a format."""
        return (self._name,)

    def describe(self, fmt: NumberFormat) -> str:  # noqa: ARG002
        """For example ``FP4 E2M1 elements; e8m0 scale = 2^(⌊log2 amax⌋ − 2)``."""
        kind = "" if self.element.name == "int8" else f"FP{self.bits} "
        emax = f" − {self.element.top_power}" if self.element.top_power else ""
        return f"{kind}{self.element.name.upper()} elements; e8m0 scale = 2^(⌊log2 amax⌋{emax})"

    def stored_bits(self, fmt: NumberFormat) -> StoredBits:  # noqa: ARG002
        """The element's, and eight a block."""
        return StoredBits(self.bits, 8)

    def qparams(self, span: Range, fmt: NumberFormat, whole: Range | None = None) -> QParams:  # noqa: ARG002
        """The floor rule; float32's smallest normal number stands for e8m0's 2^-127."""
        scale = power_of_two_below(span.amax) * 2.0**-self.element.top_power
        return QParams(scale.clamp(2.0**-126, 2.0**127))


for _name, _element, _bits in (
    ("mxfp4", E2M1, 4),
    ("mxfp6-e2m3", E2M3, 6),
    ("mxfp6-e3m2", E3M2, 6),
    ("mxfp8-e4m3", E4M3, 8),
    ("mxfp8-e5m2", E5M2, 8),
    ("mxint8", _Int8Element(), 8),
):
    QUANTIZERS.add(_name, MicroscalingQuantizer(_name, _element, _bits))
