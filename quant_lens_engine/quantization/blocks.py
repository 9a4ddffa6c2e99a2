"""Granularity: which weights share qparams, and the round trip through a scheme's codes."""

from __future__ import annotations

import torch
from torch import Tensor

from quant_lens_engine.filters import ROWS, FilterLayout
from quant_lens_engine.quantization.quantizers import QUANTIZERS
from quant_lens_engine.schema import QuantizationScheme


def split_blocks(rows: Tensor, scheme: QuantizationScheme) -> list[Tensor]:
    """``rows`` (channels, elements) as tensors whose last axis shares qparams.

    Groups are consecutive weights of one channel. Where the channel's length is no multiple of the group size its
    last group is shorter: a second tensor (channels, 1, remainder) holds it.

    Example:
        >>> from quant_lens_engine.schema import parse_scheme
        >>> [tuple(part.shape) for part in split_blocks(torch.zeros(3, 10), parse_scheme("int4-g4"))]
        [(3, 2, 4), (3, 1, 2)]
    """
    if scheme.granularity == "tensor":
        return [rows.reshape(1, -1)]
    if scheme.group_size is None:
        return [rows]
    whole = rows.shape[1] - rows.shape[1] % scheme.group_size
    parts = [
        rows[:, :whole].reshape(rows.shape[0], whole // scheme.group_size, scheme.group_size),
        rows[:, whole:].unsqueeze(1),
    ]
    return [part for part in parts if part.numel()]


def join_blocks(blocks: list[Tensor], channels: int) -> Tensor:
    """The inverse of :func:`split_blocks`."""
    return torch.cat([block.reshape(channels, -1) for block in blocks], dim=1)


def count_blocks(channels: int, elements: int, scheme: QuantizationScheme) -> int:
    """How many sets of qparams a (channels, elements) matrix stores."""
    if scheme.granularity == "tensor":
        return 1
    return channels * (1 if scheme.group_size is None else -(-elements // scheme.group_size))


def stored_bits(channels: int, elements: int, scheme: QuantizationScheme) -> float:
    """Bits of a quantized (channels, elements) matrix, with its scales and zero points."""
    weight_bits, block_bits = QUANTIZERS[scheme.format].stored_bits(scheme)
    return channels * elements * weight_bits + count_blocks(channels, elements, scheme) * block_bits


def round_trip(tensor: Tensor, scheme: QuantizationScheme, layout: FilterLayout = ROWS) -> Tensor:
    """Q(tensor): encoded and decoded in float64, rounded once to ``tensor.dtype``; no gradient is meant here."""
    if tensor.numel() == 0:
        return tensor.clone()
    quantizer = QUANTIZERS[scheme.format]
    rows = layout.rows(tensor.detach()).double()
    decoded = []
    for block in split_blocks(rows, scheme):
        qparams = quantizer.observe(block, scheme)
        decoded.append(quantizer.decode(quantizer.encode(block, qparams, scheme), qparams))
    limit = torch.finfo(tensor.dtype).max  # the largest finite weight times a rounded-up scale must not overflow
    joined = join_blocks(decoded, rows.shape[0]).clamp(-limit, limit)
    return layout.restore(joined, tensor.shape).to(tensor.dtype)
