"""Handlers of ONNX operators, opset 13 to 20: a small group a file, each registers itself.

A handler takes the network in the making and the call, and gives what the call answers: a node, known integers, or a
tuple of them. https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.registry import Registry, load_rooms

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder

Handler = Callable[["OnnxBuilder", "Call"], Any]

OPERATORS: Registry[Handler] = Registry("ONNX operator", CheckpointError)

load_rooms(sys.modules[__name__])
