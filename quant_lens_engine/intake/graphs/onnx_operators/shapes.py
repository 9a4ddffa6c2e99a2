"""Shapes, and what moves elements without changing them."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS
from quant_lens_engine.intake.graphs.onnx_sizes import Size, check_elements
from quant_lens_engine.intake.graphs.refusals import bad_graph, unsupported_operator

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.onnx_file import Call
    from quant_lens_engine.intake.graphs.onnx_network import OnnxBuilder


@OPERATORS.register("Shape")
def shape(builder: OnnxBuilder, call: Call) -> Any:
    """Sizes of all axes, or of a range of them."""
    sizes = builder.sizes(call, 0)
    return sizes[call.attributes.get("start", 0) : call.attributes.get("end")]


@OPERATORS.register("Size")
def size(builder: OnnxBuilder, call: Call) -> Any:
    """How many elements there are."""
    product: Any = 1
    for length in builder.sizes(call, 0):
        product = length * product
    answer = np.empty((), dtype=object if isinstance(product, Size) else np.int64)
    answer[()] = product
    return answer


@OPERATORS.register("Reshape")
def reshape(builder: OnnxBuilder, call: Call) -> Any:
    """Another shape; 0 keeps an axis, −1 is what remains."""
    known = builder.known(call, 0)
    wanted = builder.known(call, 1)
    keeps = not call.attributes.get("allowzero", 0)
    if known is not None and wanted is not None and wanted.dtype != object:
        sizes = [known.shape[at] if number == 0 and keeps else int(number) for at, number in enumerate(wanted)]
        try:
            return known.reshape(sizes)
        except ValueError:
            raise bad_graph("its shape arithmetic does not go together", call.name) from None
    value = builder.tensor(call, 0)
    numbers = builder.numbers(call, 1) or []
    opened = [
        builder.assembly.method("size", value, at) if type(number) is int and number == 0 and keeps else number
        for at, number in enumerate(numbers)
    ]
    return builder.assembly.call(torch.reshape, value, tuple(opened))


@OPERATORS.register("Flatten")
def flatten(builder: OnnxBuilder, call: Call) -> Any:
    """Two axes: what is before an axis, and what is from it on."""
    axis, value = call.attributes.get("axis", 1), builder.tensor(call, 0)
    if axis == 1:
        return builder.assembly.call(torch.flatten, value, 1)
    sizes = builder.sizes(call, 0)
    axis = axis + len(sizes) if axis < 0 else axis
    if axis == 0:
        return builder.assembly.call(torch.reshape, value, (1, -1))
    return builder.assembly.call(torch.flatten, builder.assembly.call(torch.flatten, value, axis), 0, axis - 1)


@OPERATORS.register("Transpose")
def transpose(builder: OnnxBuilder, call: Call) -> Any:
    """Axes in another order; turned round where none is given."""
    axes = call.attributes.get("perm")
    stored = builder.weight(call, 0)
    if stored is not None and len(builder.tensors.shape(stored)) == 2 and axes in (None, [1, 0]):
        return type(stored)(stored.name, not stored.turned)
    known = builder.known(call, 0)
    if known is not None:
        return np.transpose(known, axes)
    if axes is None:
        axes = list(range(len(builder.sizes(call, 0))))[::-1]
    return builder.assembly.call(torch.permute, builder.tensor(call, 0), tuple(axes))


@OPERATORS.register("Squeeze")
def squeeze(builder: OnnxBuilder, call: Call) -> Any:
    """Without some axes of size one; without all of them where none is given."""
    axes = builder.numbers(call, 1)
    known = builder.known(call, 0)
    if known is not None:
        return np.squeeze(known, None if axes is None else tuple(axes))
    if axes is None:
        return builder.assembly.call(torch.squeeze, builder.tensor(call, 0))
    return builder.assembly.call(torch.squeeze, builder.tensor(call, 0), tuple(axes))


@OPERATORS.register("Unsqueeze")
def unsqueeze(builder: OnnxBuilder, call: Call) -> Any:
    """With new axes of size one, at places of the answer."""
    axes = builder.numbers(call, 1) or []
    known = builder.known(call, 0)
    if known is not None:
        return np.expand_dims(known, tuple(axes))
    node = builder.tensor(call, 0)
    if any(axis < 0 for axis in axes) and len(axes) > 1:
        rank = len(builder.sizes(call, 0)) + len(axes)
        axes = [axis % rank for axis in axes]
    for axis in sorted(axes):
        node = builder.assembly.call(torch.unsqueeze, node, axis)
    return node


@OPERATORS.register("Expand")
def expand(builder: OnnxBuilder, call: Call) -> Any:
    """Broadcast with a shape."""
    known, wanted = builder.known(call, 0), builder.known(call, 1)
    if known is not None and wanted is not None and wanted.dtype != object and wanted.size <= 1:
        check_elements(known.shape, tuple(int(number) for number in wanted))
        return np.broadcast_to(known, np.broadcast_shapes(known.shape, tuple(int(number) for number in wanted)))
    value, numbers = builder.tensor(call, 0), builder.numbers(call, 1) or []
    sizes = builder.sizes(call, 0)
    if len(numbers) < len(sizes):
        numbers = [1] * (len(sizes) - len(numbers)) + numbers
    own = [1] * (len(numbers) - len(sizes)) + list(sizes)
    opened = [
        -1 if type(number) is int and number == 1 and at >= len(numbers) - len(sizes) else number
        for at, number in enumerate(numbers)
    ]
    # an axis that is longer than the shape says keeps its size; torch would refuse it
    opened = [
        -1 if not isinstance(mine, Size) and mine != 1 and at >= len(numbers) - len(sizes) else number
        for at, (number, mine) in enumerate(zip(opened, own, strict=True))
    ]
    return builder.assembly.method("expand", value, *opened)


@OPERATORS.register("Tile")
def tile(builder: OnnxBuilder, call: Call) -> Any:
    """Repeated along each axis."""
    return builder.assembly.call(torch.tile, builder.tensor(call, 0), tuple(builder.numbers(call, 1) or ()))


@OPERATORS.register("Concat")
def concat(builder: OnnxBuilder, call: Call) -> Any:
    """One behind the other along an axis."""
    known = [builder.known(call, place) for place in range(len(call.inputs))]
    axis = call.attributes["axis"]
    arrays = [value for value in known if value is not None]
    if len(arrays) == len(known):
        check_elements([sum(value.size for value in arrays)])
        if any(value.dtype == object for value in arrays):
            arrays = [value.astype(object) for value in arrays]
        return np.concatenate(arrays, axis)
    tensors = [builder.tensor(call, place) for place in range(len(call.inputs))]
    return builder.assembly.call(torch.cat, tensors, axis)


@OPERATORS.register("Split")
def split(builder: OnnxBuilder, call: Call) -> Any:
    """Parts along an axis: of given sizes, or as equal as can be."""
    axis, parts = call.attributes.get("axis", 0), len(call.outputs)
    known = builder.known(call, 0)
    given = builder.numbers(call, 1)
    value = builder.tensor(call, 0) if known is None else None
    if known is not None and given is None:
        return tuple(np.array_split(known, parts, axis))
    if value is None:
        value = builder.tensor(call, 0)
    if given is None:
        length = builder.sizes(call, 0)[axis]
        each = (length + (parts - 1)) // parts
        made = builder.assembly.call(torch.split, value, each.node if isinstance(each, Size) else int(each), axis)
    else:
        made = builder.assembly.call(torch.split, value, given, axis)
    return tuple(builder.assembly.call(operator.getitem, made, place) for place in range(parts))


@OPERATORS.register("Slice")
def slice_(builder: OnnxBuilder, call: Call) -> Any:
    """From starts to ends along axes, in steps."""
    starts, ends = builder.numbers(call, 1) or [], builder.numbers(call, 2) or []
    axes = builder.numbers(call, 3) or list(range(len(starts)))
    steps = builder.numbers(call, 4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or any(type(step) is not int for step in steps):
        raise bad_graph("a slice whose parts do not go together", call.name)
    known = builder.known(call, 0)
    numbers = all(type(number) is int for number in (*starts, *ends))
    if known is not None and numbers:
        places: list[Any] = [slice(None)] * known.ndim
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            last = None if step < 0 and end < -known.shape[axis] else end
            places[axis] = slice(start, last, step)
        return known[tuple(places)]
    node = builder.tensor(call, 0)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            whole = step == -1 and type(start) is int and type(end) is int and (start == -1 or start > 1 << 30)
            if not whole or end > -(1 << 30):
                raise unsupported_operator("Slice backwards over a part", call.name)
            node = builder.assembly.call(torch.flip, node, (axis,))
            continue
        last = end if type(end) is not int else min(end, (1 << 63) - 1)
        node = builder.assembly.call(torch.ops.aten.slice.Tensor, node, axis, start, last, step)
    return node


@OPERATORS.register("Pad")
def pad(builder: OnnxBuilder, call: Call) -> Any:
    """More at both ends of axes: a constant, a reflection, the last element."""
    pads = builder.numbers(call, 1) or []
    filling = builder.floats(call, 2)
    mode = call.attributes.get("mode", "constant")
    axes = builder.numbers(call, 3)
    rank = builder.rank(call, 0)
    if axes is not None or rank is None or len(pads) != 2 * rank:
        if rank is None or axes is None or len(pads) != 2 * len(axes):
            raise bad_graph("pads of another number of axes", call.name)
        whole: list[Any] = [0] * 2 * rank
        for place, axis in enumerate(axes):
            whole[axis % rank], whole[rank + axis % rank] = pads[place], pads[len(axes) + place]
        pads = whole
    pairs = list(zip(pads[:rank], pads[rank:], strict=True))
    while len(pairs) > 1 and pairs[0] == (0, 0):
        pairs.pop(0)
    both = [size for pair in pairs[::-1] for size in pair]
    value = builder.tensor(call, 0)
    if mode == "constant":
        number = filling[0] if filling else 0.0
        if not math.isfinite(number) and builder.whole(call, 0):
            raise bad_graph("integers cannot be padded with that", call.name)
        return builder.assembly.call(F.pad, value, both, "constant", number)
    modes = {"reflect": "reflect", "edge": "replicate"}
    if mode not in modes:
        raise unsupported_operator(f"Pad with {mode}", call.name)
    if any(isinstance(number, int) and number < 0 for number in both):
        raise unsupported_operator(f"Pad with {mode} and negative pads", call.name)
    return builder.assembly.call(F.pad, value, both, modes[mode])


@OPERATORS.register("DepthToSpace")
def depth_to_space(builder: OnnxBuilder, call: Call) -> Any:
    """Channels become places: blocks of columns (CRD, as ``nn.PixelShuffle``) or of depth (DCR)."""
    block = call.attributes["blocksize"]
    value = builder.tensor(call, 0)
    if call.attributes.get("mode", "DCR") == "CRD":
        return builder.assembly.call(F.pixel_shuffle, value, block)
    rows, channels, height, width = (builder.assembly.method("size", value, axis) for axis in range(4))
    depth = builder.assembly.call(operator.floordiv, channels, block * block)
    split_up = builder.assembly.call(torch.reshape, value, (rows, block, block, depth, height, width))
    moved = builder.assembly.call(torch.permute, split_up, (0, 3, 4, 1, 5, 2))
    tall, wide = (builder.assembly.call(operator.mul, size, block) for size in (height, width))
    return builder.assembly.call(torch.reshape, moved, (rows, depth, tall, wide))


@OPERATORS.register("SpaceToDepth")
def space_to_depth(builder: OnnxBuilder, call: Call) -> Any:
    """Places become channels, a block's first."""
    block = call.attributes["blocksize"]
    value = builder.tensor(call, 0)
    rows, channels, height, width = (builder.assembly.method("size", value, axis) for axis in range(4))
    low, narrow = (builder.assembly.call(operator.floordiv, size, block) for size in (height, width))
    split_up = builder.assembly.call(torch.reshape, value, (rows, channels, low, block, narrow, block))
    moved = builder.assembly.call(torch.permute, split_up, (0, 3, 5, 1, 2, 4))
    deep = builder.assembly.call(operator.mul, channels, block * block)
    return builder.assembly.call(torch.reshape, moved, (rows, deep, low, narrow))
