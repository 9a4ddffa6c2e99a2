"""Granularity: which weights share qparams, and the round trip through a scheme's codes.

A weight is seen as a matrix with one channel a row (:mod:`quant_lens_engine.filters`). It is rounded some rows at a
time: what a step works on stays in the processor's cache, and beyond the answer little memory is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from quant_lens_engine.filters import ROWS, FilterLayout
from quant_lens_engine.quantizers import QUANTIZERS, QParams, Quantizer, Range
from quant_lens_engine.schema.number_format import NumberFormat

CHUNK = 2**16
"""Weights that are rounded at a time: 256 kB in float32."""


def split_blocks(rows: Tensor, fmt: NumberFormat) -> list[Tensor]:
    """``rows`` (channels, elements) as tensors whose last axis shares qparams.

    Groups are consecutive weights of one channel. Where the channel's length is no multiple of the group size its
    last group is shorter: a second tensor (channels, 1, remainder) holds it. A square tile is as many groups, one
    above the other, with one range (:func:`span_of`).

    Example:
        >>> from quant_lens_engine.schema import parse_scheme
        >>> [tuple(part.shape) for part in split_blocks(torch.zeros(3, 10), parse_scheme("int4-g4"))]
        [(3, 2, 4), (3, 1, 2)]
    """
    if fmt.granularity == "tensor":
        return [rows.reshape(1, -1)]
    if fmt.group_size is None:
        return [rows]
    whole = rows.shape[1] - rows.shape[1] % fmt.group_size
    parts = [
        rows[:, :whole].reshape(rows.shape[0], whole // fmt.group_size, fmt.group_size),
        rows[:, whole:].unsqueeze(1),
    ]
    return [part for part in parts if part.numel()]


def join_blocks(blocks: list[Tensor], channels: int) -> Tensor:
    """The inverse of :func:`split_blocks`."""
    return torch.cat([block.reshape(channels, -1) for block in blocks], dim=1)


def count_blocks(channels: int, elements: int, fmt: NumberFormat) -> int:
    """How many sets of qparams a (channels, elements) matrix stores."""
    if fmt.granularity == "tensor":
        return 1
    if fmt.group_size is None:
        return channels
    rows = -(-channels // fmt.group_size) if fmt.granularity == "block" else channels
    return rows * -(-elements // fmt.group_size)


def stored_bits(channels: int, elements: int, fmt: NumberFormat) -> float:
    """Bits of a quantized (channels, elements) matrix, with its scales and zero points."""
    cost = QUANTIZERS[fmt.format].stored_bits(fmt)
    return channels * elements * cost.element + count_blocks(channels, elements, fmt) * cost.block + cost.tensor


def span_of(blocks: Tensor, fmt: NumberFormat) -> Range:
    """The smallest and the largest weight of each block, (…, 1); of a tile, for each of its rows."""
    low, high = blocks.aminmax(dim=-1, keepdim=True)
    if fmt.granularity == "block" and fmt.group_size is not None:
        bands = torch.arange(len(blocks), device=blocks.device) // fmt.group_size
        low = torch.stack([band.amin(0) for band in torch.split(low, fmt.group_size)])[bands]
        high = torch.stack([band.amax(0) for band in torch.split(high, fmt.group_size)])[bands]
    return Range(low, high)


def span_of_all(rows: Tensor) -> Range:
    """The smallest and the largest of all, each (1, 1)."""
    low, high = rows.aminmax()
    return Range(low.reshape(1, 1), high.reshape(1, 1))


def round_trip(
    tensor: Tensor, fmt: NumberFormat, layout: FilterLayout = ROWS, *, clip: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """Q(tensor), with qparams observed on the tensor itself; no gradient is meant here.

    Computed in float32 (float64 where the tensor is) and rounded once to the tensor's dtype.

    Args:
        tensor: floating point, of any shape.
        fmt: codes, and what shares a scale.
        layout: which weights form a channel.
        clip: the range that is held, as a part of the smallest and the largest weight.
        out: where the answer is written, in a tensor of the same shape and dtype (the tensor itself, too).
    """
    rows = layout.rows(tensor.detach())
    answer = torch.empty_like(tensor) if out is None else out
    if not tensor.numel():
        return answer
    target = layout.rows(answer)
    whole = tensor_span(rows, fmt, clip)
    for chunk in chunks(rows.shape, fmt):
        part = working(rows[chunk])
        blocks = split_blocks(part, fmt)
        rounded = [_rounded(block, fmt, whole, clip) for block in blocks]
        joined = join_blocks(rounded, part.shape[0])
        limit = torch.finfo(tensor.dtype).max  # the largest finite weight times a rounded-up scale must not overflow
        target[chunk] = joined.clamp(-limit, limit)
    if not shares_memory(target, answer):
        answer.copy_(layout.restore(target, tensor.shape))
    return answer


def chunks(shape: torch.Size, fmt: NumberFormat) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of parts of about :data:`CHUNK` weights that cut nothing apart that shares qparams."""
    rows, columns = shape
    height = fmt.group_size if fmt.granularity == "block" and fmt.group_size is not None else 1
    width = columns if fmt.group_size is None else fmt.group_size * max(1, CHUNK // (height * fmt.group_size))
    tall = height * max(1, CHUNK // (height * max(1, min(width, columns))))
    for first in range(0, rows, tall):
        for left in range(0, columns, width):
            yield slice(first, min(first + tall, rows)), slice(left, min(left + width, columns))


def working(rows: Tensor) -> Tensor:
    """In the precision that quantizers compute in."""
    return rows if rows.dtype in (torch.float32, torch.float64) else rows.float()


def shares_memory(one: Tensor, other: Tensor) -> bool:
    """Whether ``one`` is a view of ``other``."""
    return one._base is other or one is other or (one._base is not None and one._base is other._base)


def tensor_span(rows: Tensor, fmt: NumberFormat, clip: float = 1.0) -> Range | None:
    """The range of all weights, for the formats that need it: one scale a tensor, or a second one above others.

    A second scale is never clipped: blocks that are clipped more or less are stored under the same one.
    """
    if fmt.granularity != "tensor" and not QUANTIZERS[fmt.format].stored_bits(fmt).tensor:
        return None
    found = span_of_all(rows)
    return scaled_span(Range(working(found.low), working(found.high)), clip if fmt.granularity == "tensor" else 1.0)


def scaled_span(span: Range, clip: float | Tensor) -> Range:
    """A part of a range."""
    return span if isinstance(clip, float) and clip == 1.0 else Range(span.low * clip, span.high * clip)


def block_qparams(block: Tensor, fmt: NumberFormat, whole: Range | None, clip: float | Tensor = 1.0) -> QParams:
    """The qparams of blocks, observed on them."""
    quantizer: Quantizer = QUANTIZERS[fmt.format]
    span = whole if fmt.granularity == "tensor" and whole is not None else scaled_span(span_of(block, fmt), clip)
    return quantizer.qparams(span, fmt, whole)


def _rounded(block: Tensor, fmt: NumberFormat, whole: Range | None, clip: float) -> Tensor:
    quantizer = QUANTIZERS[fmt.format]
    qparams = block_qparams(block, fmt, whole, clip)
    return quantizer.decode(quantizer.encode(block, qparams, fmt), qparams, fmt)
