"""One file a number format; each registers its quantizer under ``QuantizationScheme.format``.

A file here loads no torch at import (a quantizer needs nothing but the methods of the tensors it is given), so that a
web process can list schemes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.registry import Registry, load_rooms
from quant_lens_engine.schema import QuantizationScheme

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class QParams:
    """What a block of weights shares: real value = (code − zero_point) · scale.

    Attributes:
        scale: shape (…, 1), positive, and a value that the scheme's ``scale_dtype`` can hold.
        zero_point: the code of 0, an integer in floating point; None for a symmetric scheme.
    """

    scale: Tensor
    zero_point: Tensor | None = None


class Quantizer(Protocol):
    """A number format: codes of a block of weights that shares its qparams.

    ``blocks`` is float64 of any shape; the weights along its last axis share qparams. ``observe`` chooses them by
    min-max; ``encode`` at fixed qparams is a projection: encoding a decoded block gives the same codes.
    """

    description: str

    def offered(self) -> Sequence[QuantizationScheme]:
        """The schemes of this format that a user is offered; more can be named."""

    def describe(self, scheme: QuantizationScheme) -> str:
        """The scheme in one line, with its scale formula."""

    def observe(self, blocks: Tensor, scheme: QuantizationScheme) -> QParams:
        """The qparams of each block, rounded as they are stored."""

    def encode(self, blocks: Tensor, qparams: QParams, scheme: QuantizationScheme) -> Tensor:
        """The code of each weight, an integer in floating point."""

    def decode(self, codes: Tensor, qparams: QParams) -> Tensor:
        """The real value of each code."""

    def stored_bits(self, scheme: QuantizationScheme) -> tuple[float, float]:
        """Bits of one weight, and bits of one block's qparams."""


QUANTIZERS: Registry[Quantizer] = Registry("number format", SchemeError)

load_rooms(sys.modules[__name__])
