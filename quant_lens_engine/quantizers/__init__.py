"""One file a number format: its name, its bits, its scale formula, its codes.

A file here registers a :class:`Quantizer` and loads no torch (a quantizer needs nothing but the methods of the tensors
it is given), so a web process can read a scheme's name, list the schemes and say what each costs. Which weights share a
scale is decided elsewhere (:mod:`quant_lens_engine.quantization.blocks`): a quantizer sees blocks that share one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.registry import Registry, load_rooms

if TYPE_CHECKING:
    from torch import Tensor


class NumberFormat(Protocol):
    """What a quantizer reads of a scheme; see :class:`quant_lens_engine.schema.NumberFormat`, which is one."""

    @property
    def format(self) -> str:
        """The quantizer's registered name."""

    @property
    def bits(self) -> int:
        """Stored bits of one element, scales not counted."""

    @property
    def symmetric(self) -> bool:
        """No zero point."""

    @property
    def full_range(self) -> bool:
        """The most negative code is used too."""

    @property
    def granularity(self) -> str:
        """What shares one scale: ``tensor``, ``channel``, ``group``, ``block``, ``token``."""

    @property
    def group_size(self) -> int | None:
        """Elements that share one scale, or the edge of a square block."""

    @property
    def scale_dtype(self) -> str:
        """How a scale is stored."""

    @property
    def levels(self) -> tuple[float, ...]:
        """A codebook's levels, ascending; empty for other formats."""


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value that a block must hold, each of shape (…, 1)."""

    low: Tensor
    high: Tensor

    @property
    def amax(self) -> Tensor:
        """The larger of the two magnitudes."""
        return (-self.low).maximum(self.high)


@dataclass(frozen=True)
class QParams:
    """What a block shares: real value = (code − zero_point) · scale.

    Attributes:
        scale: shape (…, 1), positive, and a value that the scheme's ``scale_dtype`` can hold.
        zero_point: the code of 0, an integer in floating point; None for a symmetric format.
        multiplier: what values are multiplied with, where kernels compute it in another way than as 1/scale.
    """

    scale: Tensor
    zero_point: Tensor | None = None
    multiplier: Tensor | None = None

    @property
    def inverse(self) -> Tensor:
        """The factor from values to codes."""
        return self.scale.reciprocal() if self.multiplier is None else self.multiplier


@dataclass(frozen=True)
class StoredBits:
    """What is stored: bits of one element, of one block's qparams, and of what a whole tensor shares."""

    element: float
    block: float
    tensor: float = 0.0


class Quantizer(Protocol):
    """A number format: codes of blocks that share their qparams.

    Blocks are float32 or float64 of any shape; what lies along their last axis shares qparams. ``encode`` at fixed
    qparams is a projection: encoding a decoded block gives the same codes. A code is an integer in floating point; of a
    format whose elements are floats it is the element itself.

    Attributes:
        family: the heading under which it is listed.
        stem: how a name in this format begins.
        defaults: fields of a :class:`NumberFormat` that a name of this format does not say.
    """

    family: str
    stem: re.Pattern[str]
    defaults: Mapping[str, Any]

    def fields(self, match: re.Match[str]) -> dict[str, Any]:
        """What the name's beginning says."""

    def stem_of(self, fmt: NumberFormat) -> str:
        """The beginning of a name; the inverse of :meth:`fields`."""

    def check(self, fmt: NumberFormat) -> None:
        """Raise ValueError, naming the parts that clash."""

    def offered(self) -> Sequence[str]:
        """The weight schemes that a user is offered; more can be named."""

    def describe(self, fmt: NumberFormat) -> str:
        """The format and its scale formula, in a few words."""

    def stored_bits(self, fmt: NumberFormat) -> StoredBits:
        """What an element, a block and a tensor cost."""

    def qparams(self, span: Range, fmt: NumberFormat, whole: Range | None = None) -> QParams:
        """The qparams that hold a range, rounded as they are stored.

        Args:
            span: of each block.
            fmt: the format.
            whole: of the tensor that the blocks belong to, for formats with a scale of two levels.
        """

    def encode(self, blocks: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:
        """The code of each element, rounded to nearest and clipped."""

    def decode(self, codes: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:
        """The real value of each code."""

    def edges(self, qparams: QParams, fmt: NumberFormat) -> Range:
        """The interval that is rounded; what lies beyond is clipped."""


QUANTIZERS: Registry[Quantizer] = Registry("number format", SchemeError)

load_rooms(sys.modules[__name__])
