"""What the values of a TorchScript graph are while it is read: numbers, tensors by name, sizes, lists, modules."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from quant_lens_engine.intake.graphs.aten_records import Reference

DTYPES: dict[int, torch.dtype] = {
    0: torch.uint8, 1: torch.int8, 2: torch.int16, 3: torch.int32, 4: torch.int64, 5: torch.float16, 6: torch.float32,
    7: torch.float64, 11: torch.bool, 15: torch.bfloat16,
}  # fmt: skip
"""TorchScript writes a dtype as its number in c10's list."""

ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "floordiv": operator.floordiv,
    "floor_divide": operator.floordiv, "div": operator.truediv, "remainder": operator.mod, "neg": operator.neg,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "__and__": operator.and_, "__or__": operator.or_,
}  # fmt: skip
"""On numbers; what they are called on sizes that vary is ``_operator.NAME``."""

SAME = frozenset({
    "aten::Int", "aten::IntImplicit", "aten::Float", "aten::FloatImplicit", "aten::Bool", "aten::ScalarImplicit",
    "prim::NumToTensor", "prim::unchecked_cast",
})  # fmt: skip
"""Their answer is what they were given, in another type."""

_OTHER_SHAPES = """
adaptive_max_pool2d bmm chunk col2im dot einsum expand gather im2col index index_select matmul mm mv narrow norm
one_hot pad repeat scaled_dot_product_attention split split_with_sizes stack squeeze tile topk unbind unflatten unfold
where baddbmm addmm arange zeros ones full argmax argmin prod std var median sort
"""
_SHAPES_OF_THEIR_OWN = frozenset(_OTHER_SHAPES.split())


@dataclass(frozen=True)
class Member:
    """A module of the script, and its path."""

    owner: Any
    path: str
    kind: str


@dataclass(frozen=True)
class Sizes:
    """All sizes of a tensor."""

    of: Reference


@dataclass(frozen=True)
class Several:
    """The tensors that an operator has answered with, as one list."""

    name: str


def rank_after(name: str, arguments: dict[str, Any], ranks: Sequence[int | None]) -> int | None:
    """How many axes an operator's answer has, as far as that is told without sizes; None: it is not.

    Args:
        name: of the operator.
        arguments: of the call, by the names of its schema.
        ranks: of the tensors among them, in order.

    Example:
        >>> rank_after("flatten", {"start_dim": 1, "end_dim": -1}, [4]), rank_after("relu", {}, [4])
        (2, 4)
        >>> rank_after("matmul", {}, [2, 2]) is None
        True
    """
    first = ranks[0] if ranks else None
    if name.startswith(("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose")):
        return ranks[1] if len(ranks) > 1 else None
    sizes = next((arguments[key] for key in ("size", "shape", "dims") if isinstance(arguments.get(key), list)), None)
    if name in ("view", "reshape", "permute"):
        return None if sizes is None else len(sizes)
    if name in ("unsqueeze", "embedding", "select"):
        base = (ranks[1] if len(ranks) > 1 else None) if name == "embedding" else first
        return None if base is None else base + (-1 if name == "select" else 1)
    if name == "flatten":
        return None if first is None else _flattened(first, arguments.get("start_dim", 0), arguments.get("end_dim", -1))
    if name in ("mean", "sum", "amax", "amin"):
        gone = arguments.get("dim")
        if first is None or not isinstance(gone, list):
            return None
        return first if arguments.get("keepdim") else first - len(gone)
    if name.removesuffix("_") in _SHAPES_OF_THEIR_OWN or None in ranks or not ranks:
        return None
    return max(rank for rank in ranks if rank is not None)


def _flattened(rank: int, start: Any, end: Any) -> int | None:
    if type(start) is not int or type(end) is not int:
        return None
    return rank - (end % rank - start % rank)
