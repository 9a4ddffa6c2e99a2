"""NVFP4: blocks of 16 e2m1 elements under an e4m3 scale, under one fp32 scale a tensor.

    tensor scale = amax(tensor) / (448 · 6)
    block scale  = e4m3(amax(block) / 6 / tensor scale), at least e4m3's smallest normal number
    real value   = element · block scale · tensor scale

The element is round(x · (1/tensor scale)/block scale), as NVIDIA's and torchao's kernels compute it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quant_lens_engine.quantizers import QUANTIZERS, NumberFormat, QParams, Range, StoredBits
from quant_lens_engine.quantizers._elements import ElementCodes
from quant_lens_engine.quantizers._minifloat import E2M1, E4M3
from quant_lens_engine.quantizers._scales import stored_scale
from quant_lens_engine.quantizers.float8 import refuse_integer_flags

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 16

_SMALLEST = 2.0**-120
"""Of tensor scales: times the smallest block scale it is still a normal number of float32, with a finite reciprocal."""


class Nvfp4Quantizer(ElementCodes):
    """FP4 elements under two levels of scale."""

    family = "block"
    stem = re.compile("nvfp4")
    defaults: Mapping[str, Any] = {"bits": 4, "granularity": "group", "group_size": BLOCK, "scale_dtype": "e4m3"}

    def __init__(self) -> None:
        super().__init__(E2M1)

    def fields(self, match: re.Match[str]) -> dict[str, Any]:  # noqa: ARG002
        """The name says all of it."""
        return {}

    def stem_of(self, fmt: NumberFormat) -> str:
        """``nvfp4``."""
        return fmt.format

    def check(self, fmt: NumberFormat) -> None:
        """Block and scale are NVIDIA's."""
        refuse_integer_flags(fmt, 4)
        if (fmt.granularity, fmt.group_size) != ("group", BLOCK):
            raise ValueError(f"nvfp4 has blocks of {BLOCK}, and no other")
        if fmt.scale_dtype != "e4m3":
            raise ValueError("nvfp4 has scales of e4m3 under one fp32 scale a tensor, and no other")

    def offered(self) -> Sequence[str]:
        """One scheme."""
        return ("nvfp4",)

    def describe(self, fmt: NumberFormat) -> str:  # noqa: ARG002
        """The formula in a line."""
        return "FP4 E2M1 elements; e4m3 scale = amax / 6 / s, one fp32 s = amax(tensor) / 2688"

    def stored_bits(self, fmt: NumberFormat) -> StoredBits:  # noqa: ARG002
        """Four, eight a block, 32 a tensor."""
        return StoredBits(4, 8, 32)

    def qparams(self, span: Range, fmt: NumberFormat, whole: Range | None = None) -> QParams:  # noqa: ARG002
        """The product of both scales, in the precision of the blocks."""
        amax = span.amax
        largest = amax.amax() if whole is None else whole.amax
        tensor_scale = stored_scale(largest / (E4M3.largest * E2M1.largest), "float32").clamp(min=_SMALLEST)
        block_scale = E4M3.nearest((amax / E2M1.largest / tensor_scale).clamp(2.0**-6, E4M3.largest))
        # an overflow would turn a tensor of zeros into NaN
        multiplier = (tensor_scale.reciprocal() / block_scale).clamp(max=2.0**127)
        return QParams(block_scale * tensor_scale, multiplier=multiplier)

    def encode(self, blocks: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:  # noqa: ARG002
        """The nearest element, with the reciprocal of both scales that kernels multiply with."""
        return E2M1.nearest(blocks * qparams.inverse)


QUANTIZERS.add("nvfp4", Nvfp4Quantizer())
