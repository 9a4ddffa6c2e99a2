"""Resizing of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS
from quant_lens_engine.intake.graphs.refusals import unsupported_operator

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@OPERATORS.register("Resize")
def resize(builder: OnnxBuilder, call: Call) -> Any:
    """Nearest, linear or cubic, by the rules that torch has too."""
    rank = builder.rank(call, 0)
    mode = call.attributes.get("mode", "nearest")
    rule = call.attributes.get("coordinate_transformation_mode", "half_pixel")
    nearest = call.attributes.get("nearest_mode", "round_prefer_floor")
    if rank not in _LINEAR or call.attributes.get("antialias", 0) or "axes" in call.attributes:
        raise unsupported_operator("Resize with antialias or over other axes", call.name)
    corners = rule == "align_corners"
    if mode == "nearest":
        if (rule, nearest) != ("asymmetric", "floor"):
            raise unsupported_operator(f"Resize to the nearest by {rule} and {nearest}", call.name)
        chosen, corners_given = "nearest", None
    else:
        if rule not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
            raise unsupported_operator(f"Resize by {rule}", call.name)
        if mode == "cubic" and (rank != 4 or call.attributes.get("cubic_coeff_a", -0.75) != -0.75):
            raise unsupported_operator("cubic Resize of this kind", call.name)
        chosen, corners_given = ("bicubic" if mode == "cubic" else _LINEAR[rank]), corners
    value = builder.tensor(call, 0)
    scales = None if len(call.inputs) > 3 and call.inputs[3] else builder.floats(call, 2)
    if scales is not None:
        if scales[:2] != [1.0, 1.0]:
            raise unsupported_operator("Resize of rows or channels", call.name)
        return builder.assembly.call(F.interpolate, value, None, tuple(scales[2:]), chosen, corners_given)
    sizes = (builder.numbers(call, 3) or [])[2:]
    return builder.assembly.call(F.interpolate, value, tuple(sizes), None, chosen, corners_given)
