"""Quantization: from a float model and a scheme to its dequantized weights.

``layers.py`` knows which weights of a network are rounded, ``blocks.py`` what shares a scale, ``rounding.py`` and
``grid.py`` how a weight goes to its codes, ``quantized_forward.py`` how activations do. ``algorithms/`` has one file an
algorithm; each works on a ``draft.py``, and ``model_quantization.py`` makes a variant of it. ``custom/`` reads models
that another library quantized, ``torchao_export.py`` writes a scheme as torchao's configuration, ``catalog.py`` lists
what is on offer. Number formats and observers are rooms of their own (:mod:`quant_lens_engine.quantizers`,
:mod:`quant_lens_engine.observers`): a scheme's name can be read without torch. Importing this package or the catalog
loads no torch; the names below do, when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant_lens_engine.quantization.algorithms import check_recipe, usual_options
    from quant_lens_engine.quantization.catalog import available_schemes
    from quant_lens_engine.quantization.custom import custom_variant
    from quant_lens_engine.quantization.fake_quant import FakeQuantize, fake_quantize
    from quant_lens_engine.quantization.model_quantization import (
        as_stored,
        calibrated_by,
        float_variant,
        quantize,
        refuse_recipe,
    )
    from quant_lens_engine.quantization.torchao_export import torchao_config
    from quant_lens_engine.quantization.variant import QuantizedLayer, QuantizedVariant

_FILES = {
    "FakeQuantize": "fake_quant",
    "QuantizedLayer": "variant",
    "QuantizedVariant": "variant",
    "as_stored": "model_quantization",
    "available_schemes": "catalog",
    "calibrated_by": "model_quantization",
    "check_recipe": "algorithms",
    "custom_variant": "custom",
    "fake_quantize": "fake_quant",
    "float_variant": "model_quantization",
    "quantize": "model_quantization",
    "refuse_recipe": "model_quantization",
    "torchao_config": "torchao_export",
    "usual_options": "algorithms",
}

__all__ = [
    "FakeQuantize",
    "QuantizedLayer",
    "QuantizedVariant",
    "as_stored",
    "available_schemes",
    "calibrated_by",
    "check_recipe",
    "custom_variant",
    "fake_quantize",
    "float_variant",
    "quantize",
    "refuse_recipe",
    "torchao_config",
    "usual_options",
]


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
