"""Quantization: from a float model and a scheme to its dequantized weights.

``quantizers/`` has one file a number format; ``layers.py`` knows which weights of a network are rounded,
``weight_only.py`` rounds them, ``custom.py`` reads a model that another library quantized, ``catalog.py`` lists the
schemes on offer.
Importing this package or the catalog loads no torch; the names below do, when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant_lens_engine.quantization.catalog import available_schemes
    from quant_lens_engine.quantization.custom import custom_variant
    from quant_lens_engine.quantization.fake_quant import FakeQuantize, fake_quantize
    from quant_lens_engine.quantization.variant import QuantizedLayer, QuantizedVariant
    from quant_lens_engine.quantization.weight_only import float_variant, quantize

_FILES = {
    "FakeQuantize": "fake_quant",
    "QuantizedLayer": "variant",
    "QuantizedVariant": "variant",
    "available_schemes": "catalog",
    "custom_variant": "custom",
    "fake_quantize": "fake_quant",
    "float_variant": "weight_only",
    "quantize": "weight_only",
}

__all__ = [
    "FakeQuantize",
    "QuantizedLayer",
    "QuantizedVariant",
    "available_schemes",
    "custom_variant",
    "fake_quantize",
    "float_variant",
    "quantize",
]


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
