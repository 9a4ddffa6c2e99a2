"""Quant Lens' engine: what quantization does to a network.

Importing it loads no torch; the names below do, when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from quant_lens_engine.version import __version__

if TYPE_CHECKING:
    from quant_lens_engine.curvature import power_iteration
    from quant_lens_engine.diagnostic import QuantDiagnostic
    from quant_lens_engine.intake.architectures import architecture
    from quant_lens_engine.landscape import trace_1d_loss
    from quant_lens_engine.quantization import fake_quantize
    from quant_lens_engine.sensitivity import allocate

_ROOMS = {
    "QuantDiagnostic": "quant_lens_engine.diagnostic",
    "allocate": "quant_lens_engine.sensitivity",
    "architecture": "quant_lens_engine.intake.architectures",
    "fake_quantize": "quant_lens_engine.quantization",
    "power_iteration": "quant_lens_engine.curvature",
    "trace_1d_loss": "quant_lens_engine.landscape",
}

__all__ = [
    "QuantDiagnostic",
    "__version__",
    "allocate",
    "architecture",
    "fake_quantize",
    "power_iteration",
    "trace_1d_loss",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
