"""How a static activation range is chosen from what calibration rows gave: one file an observer.

Each registers itself by the name that a scheme says (``w8a8-percentile``), and loads no torch: a name can be read where
there is none. What an observer keeps does not depend on how rows were batched.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.quantizers import NumberFormat, Range
from quant_lens_engine.registry import Registry, load_rooms

if TYPE_CHECKING:
    from torch import Tensor


class Observer(Protocol):
    """Watches one activation over the calibration rows, then says which range to hold."""

    def update(self, values: Tensor) -> None:
        """Some rows more: floating point, rows on the first axis, of any further shape."""

    def span(self, fmt: NumberFormat) -> Range:
        """The range to hold, for a format; each end of shape (1,).

        Raises:
            NumericalError: ``nothing_observed``: no value came by.
        """


class ObserverKind(Protocol):
    """Makes observers, and says in one line what they do."""

    description: str

    def __call__(self) -> Observer:
        """A fresh one."""


OBSERVERS: Registry[ObserverKind] = Registry("observer", SchemeError)

load_rooms(sys.modules[__name__])
