"""What quantizers whose codes are elements times a scale have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from quant_lens_engine.quantizers import NumberFormat, QParams, Range

if TYPE_CHECKING:
    from torch import Tensor


class Element(Protocol):
    """A set of numbers, symmetric about zero."""

    @property
    def name(self) -> str:
        """Such as ``e2m1``."""

    @property
    def largest(self) -> float:
        """The largest number."""

    @property
    def top_power(self) -> int:
        """The exponent of the largest power of two in it (OCP's emax)."""

    @property
    def edge(self) -> float:
        """Beyond it an element is clipped."""

    def nearest(self, values: Tensor) -> Tensor:
        """Each value rounded to the nearest number of the set, saturating."""


class ElementCodes:
    """Codes are elements; what is stored is an element, what is meant is an element times its block's scale."""

    def __init__(self, element: Element) -> None:
        self.element = element

    def encode(self, blocks: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:  # noqa: ARG002
        """The nearest element."""
        return self.element.nearest(blocks / qparams.scale)

    def decode(self, codes: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:  # noqa: ARG002
        """Element times scale."""
        return codes * qparams.scale

    def edges(self, qparams: QParams, fmt: NumberFormat) -> Range:  # noqa: ARG002
        """Half a step beyond the largest element."""
        reach = self.element.edge * qparams.scale
        return Range(-reach, reach)
