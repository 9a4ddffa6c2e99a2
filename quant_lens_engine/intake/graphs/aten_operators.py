"""Which ATen operators a graph may call, and as what.

A name that is not here is refused: no custom operator, none that reads a file (``from_file``), draws random numbers,
returns memory that was never written (``empty``), or runs a graph of its own.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

_ELEMENTWISE = """
abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor ceil
clamp clamp_max clamp_min clip copysign cos cosh deg2rad diff div divide eq erf erfc exp exp2 expm1 floor floor_divide
fmax fmin fmod frac ge gt hypot isfinite isinf isnan le lerp log log10 log1p log2 logaddexp logical_and logical_not
logical_or logical_xor logit lt masked_fill maximum minimum mul multiply nan_to_num ne neg negative pow reciprocal
remainder round rsqrt rsub sgn sigmoid sign sin sinc sinh special_expit special_erf special_log_softmax
special_softmax sqrt square sub subtract tan tanh true_divide trunc where __and__ __or__ __xor__ xlogy
"""
_ACTIVATIONS = """
celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu log_sigmoid log_softmax _log_softmax mish prelu
relu relu6 selu silu softmax _softmax softplus softshrink threshold
"""
_LAYERS = """
addbmm addmm addmv baddbmm batch_norm bilinear bmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d
conv_transpose3d convolution cosine_similarity dot einsum embedding group_norm instance_norm layer_norm linalg_norm
linalg_vector_norm linear matmul mm mv _native_batch_norm_legit_no_training native_group_norm native_layer_norm norm
outer rms_norm scaled_dot_product_attention
"""
_POOLING = """
adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool3d
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d
max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices
"""
_SHAPES = """
alias broadcast_to cat chunk clone col2im concat concatenate constant_pad_nd contiguous detach diagonal expand expand_as
flatten flip gather im2col index index_select movedim narrow pad permute pixel_shuffle pixel_unshuffle reflection_pad1d
reflection_pad2d repeat repeat_interleave replication_pad1d replication_pad2d reshape reshape_as roll select
select_scatter slice slice_scatter split split_with_sizes squeeze stack swapaxes t take_along_dim tile transpose tril
triu unbind unflatten unfold unsqueeze _unsafe_view upsample_bicubic2d upsample_bilinear2d upsample_linear1d
upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d view view_as channel_shuffle
index_put scatter scatter_add index_add copy fill
"""
_REDUCTIONS = """
all amax amin any argmax argmin cumprod cumsum logsumexp max mean median min prod sort std std_mean sum topk var
var_mean
"""
_CREATION = """
arange eye full full_like linspace new_full new_ones new_zeros ones ones_like scalar_tensor zeros zeros_like
lift_fresh_copy
"""
_CONVERSION = "to _to_copy type_as sym_size sym_numel sym_stride one_hot"

ALLOWED = frozenset(
    " ".join(
        (_ELEMENTWISE, _ACTIVATIONS, _LAYERS, _POOLING, _SHAPES, _REDUCTIONS, _CREATION, _CONVERSION)
    ).split()
)  # fmt: skip
"""Names of operators; an overload with ``out=`` is refused, one that ends in ``_`` writes into its first argument."""

DROPOUTS = frozenset({"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout"})
"""In ``eval()`` mode they give their input back."""

ASSERTIONS = frozenset(
    {
        "_assert_async",
        "_assert_scalar",
        "_assert_tensor_metadata",
        "sym_constrain_range",
        "sym_constrain_range_for_size",
    }
)
"""Answer nothing, and are left out."""

VIEWS = frozenset(
    [
        "alias",
        "broadcast_to",
        "channel_shuffle",
        "chunk",
        "contiguous",
        "detach",
        "diagonal",
        "expand",
        "expand_as",
        "flatten",
        "movedim",
        "narrow",
        "pad",
        "permute",
        "pixel_shuffle",
        "pixel_unshuffle",
        "reshape",
        "reshape_as",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "swapaxes",
        "t",
        "to",
        "transpose",
        "type_as",
        "unbind",
        "unflatten",
        "unfold",
        "unsqueeze",
        "view",
        "view_as",
        "_unsafe_view",
    ]
)
"""May answer with the very memory that they were given."""

FACTORIES = frozenset({"full", "linspace", "ones", "scalar_tensor", "zeros", "eye"})
"""Make floating-point numbers where no dtype is given."""

PUBLIC: dict[str, Callable[..., Any]] = {
    "relu.default": torch.relu,
    "leaky_relu.default": F.leaky_relu,
    "gelu.default": F.gelu,
    "linear.default": F.linear,
    "matmul.default": torch.matmul,
    "mm.default": torch.mm,
    "bmm.default": torch.bmm,
    "addmm.default": torch.addmm,
    "conv1d.default": F.conv1d,
    "conv2d.default": F.conv2d,
    "conv3d.default": F.conv3d,
    "max_pool1d.default": F.max_pool1d,
    "max_pool2d.default": F.max_pool2d,
    "max_pool3d.default": F.max_pool3d,
    "avg_pool1d.default": F.avg_pool1d,
    "avg_pool2d.default": F.avg_pool2d,
    "avg_pool3d.default": F.avg_pool3d,
    "adaptive_avg_pool1d.default": F.adaptive_avg_pool1d,
    "adaptive_avg_pool2d.default": F.adaptive_avg_pool2d,
    "adaptive_avg_pool3d.default": F.adaptive_avg_pool3d,
    "flatten.using_ints": torch.flatten,
    "scaled_dot_product_attention.default": F.scaled_dot_product_attention,
    # how attention lays out its answer is its kernel's own business: a view that fits one may not fit another
    "view.default": torch.reshape,
    "_unsafe_view.default": torch.reshape,
    "reshape.default": torch.reshape,
}
"""Operators that the rest of the engine knows by torch's public functions, whose arguments stand in the same order."""

NUMBERS: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "eq", "ne", "lt", "le", "gt",
                     "ge", "and_", "or_")
    },
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    "torch.sym_int": torch.sym_int,
    "torch.sym_float": torch.sym_float,
    "torch.sym_max": torch.sym_max,
    "torch.sym_min": torch.sym_min,
    "torch.sym_not": torch.sym_not,
    "torch.sym_sum": torch.sym_sum,
}  # fmt: skip
"""Arithmetic on sizes."""


def split_target(target: str) -> tuple[str, str] | None:
    """Name and overload of an ATen operator; None for anything else.

    Example:
        >>> split_target("torch.ops.aten.add_.Tensor"), split_target("torch.ops.mine.steal.default")
        (('add_', 'Tensor'), None)
    """
    parts = target.split(".")
    return (parts[3], parts[4]) if len(parts) == 5 and parts[:3] == ["torch", "ops", "aten"] else None


def find_overload(name: str, overload: str) -> torch._ops.OpOverload | None:
    """The operator, where the list has it and this torch has that overload of it."""
    if (name.removesuffix("_") if not name.startswith("__") else name) not in ALLOWED:
        return None
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or overload not in packet.overloads():
        return None
    found: torch._ops.OpOverload = getattr(packet, overload)
    written = [argument for argument in found._schema.arguments if argument.is_write]
    in_place = name.endswith("_") and not name.startswith("__")
    return found if not written or (in_place and written == found._schema.arguments[:1]) else None
