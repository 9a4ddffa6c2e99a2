"""No quantization: weights stay as they are, in a scheme that quantizes only activations, or that only trains."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quant_lens_engine.quantizers import QUANTIZERS, NumberFormat, QParams, Range, StoredBits

if TYPE_CHECKING:
    from torch import Tensor


class Unquantized:
    """Every value is its own code."""

    family = "float"
    stem = re.compile("float")
    defaults: Mapping[str, Any] = {"bits": 32, "granularity": "tensor"}

    def fields(self, match: re.Match[str]) -> dict[str, Any]:  # noqa: ARG002
        """The name says all of it."""
        return {}

    def stem_of(self, fmt: NumberFormat) -> str:
        """``float``."""
        return fmt.format

    def check(self, fmt: NumberFormat) -> None:
        """There is nothing to choose."""
        if fmt.bits != 32:
            raise ValueError(f"float weights count as 32 bits, not {fmt.bits}: they stay as they are")
        chosen = fmt.symmetric, fmt.full_range, fmt.granularity, fmt.group_size, fmt.scale_dtype, fmt.levels
        if chosen != (True, False, "tensor", None, "float32", ()):
            raise ValueError("float weights have no scale, group or zero point to choose: they stay as they are")

    def offered(self) -> Sequence[str]:
        """Nothing by itself."""
        return ()

    def describe(self, fmt: NumberFormat) -> str:  # noqa: ARG002
        """In three words."""
        return "stay in float"

    def stored_bits(self, fmt: NumberFormat) -> StoredBits:  # noqa: ARG002
        """A float."""
        return StoredBits(32, 0)

    def qparams(self, span: Range, fmt: NumberFormat, whole: Range | None = None) -> QParams:  # noqa: ARG002
        """A scale of 1."""
        return QParams(span.low * 0 + 1)

    def encode(self, blocks: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:  # noqa: ARG002
        """The value."""
        return blocks

    def decode(self, codes: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:  # noqa: ARG002
        """The value."""
        return codes

    def edges(self, qparams: QParams, fmt: NumberFormat) -> Range:  # noqa: ARG002
        """Nothing is clipped."""
        return Range(qparams.scale * -math.inf, qparams.scale * math.inf)


QUANTIZERS.add("float", Unquantized())
