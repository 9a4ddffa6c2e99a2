"""A weight matrix' codes at fixed qparams: where algorithms that choose codes themselves work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quant_lens_engine.quantization.blocks import block_qparams, chunks, split_blocks, tensor_span, working
from quant_lens_engine.quantizers import QUANTIZERS, QParams, Quantizer
from quant_lens_engine.schema.number_format import NumberFormat


@dataclass(frozen=True)
class Grid:
    """The values that each weight of a (channels, elements) matrix can take.

    Attributes:
        fmt: codes.
        qparams: scale and zero point of each channel's groups, ``(channels or 1, groups)``.
        group: columns that share qparams; None: all of them.
    """

    fmt: NumberFormat
    qparams: QParams
    group: int | None = None

    @property
    def quantizer(self) -> Quantizer:
        """Of the format."""
        return QUANTIZERS[self.fmt.format]

    def at(self, columns: Tensor) -> QParams:
        """The qparams of some columns, by index ``(n,)``; each part ``(channels or 1, n or 1)``."""
        if self.group is None:
            return self.qparams
        places = columns // self.group
        return mapped(self.qparams, lambda part: part[:, places])

    def codes(self, values: Tensor, columns: Tensor) -> Tensor:
        """The code nearest to each value of some columns, ``(channels, n)``."""
        return self.quantizer.encode(values, self.at(columns), self.fmt)

    def values(self, codes: Tensor, columns: Tensor) -> Tensor:
        """The real value of each code of some columns."""
        return self.quantizer.decode(codes, self.at(columns), self.fmt)

    def nearest(self, values: Tensor, columns: Tensor | None = None) -> Tensor:
        """Each value of a matrix, or of some columns of one, at its nearest code."""
        places = torch.arange(values.shape[1], device=values.device) if columns is None else columns
        return self.values(self.codes(values, places), places)

    def rows(self, chunk: slice) -> Grid:
        """The grid of some channels."""
        return replace(self, qparams=mapped(self.qparams, lambda part: part if len(part) == 1 else part[chunk]))


def observe_grid(rows: Tensor, fmt: NumberFormat, clip: float = 1.0) -> Grid:
    """The grid that :func:`~quant_lens_engine.quantization.blocks.round_trip` rounds to.

    Args:
        rows: ``(channels, elements)``.
        fmt: codes, and what shares a scale.
        clip: the range that is held, as a part of the smallest and the largest weight.

    Example:
        >>> from quant_lens_engine.quantization.blocks import round_trip
        >>> from quant_lens_engine.schema import parse_scheme
        >>> rows, scheme = torch.randn(4, 70), parse_scheme("int4-g32")
        >>> torch.equal(observe_grid(rows, scheme).nearest(rows), round_trip(rows, scheme))
        True
    """
    whole = tensor_span(rows, fmt, clip)
    if fmt.granularity == "tensor" and whole is not None:
        return Grid(fmt, QUANTIZERS[fmt.format].qparams(whole, fmt, whole))
    bands: dict[int, list[QParams]] = {}
    for chunk in chunks(rows.shape, fmt):
        blocks = split_blocks(working(rows[chunk]), fmt)
        found = _by_channel([block_qparams(block, fmt, whole, clip) for block in blocks], fmt)
        bands.setdefault(chunk[0].start, []).append(found)
    whole_rows = [combined(lambda parts: torch.cat(parts, dim=1), band) for band in bands.values()]
    return Grid(fmt, combined(torch.cat, whole_rows), fmt.group_size)


def mapped(qparams: QParams, change: Callable[[Tensor], Tensor]) -> QParams:
    """The same change of scale, zero point and multiplier."""
    return combined(lambda parts: change(parts[0]), [qparams])


def combined(join: Callable[[list[Tensor]], Tensor], parts: Sequence[QParams]) -> QParams:
    """Scales, zero points and multipliers of several, each joined."""
    fields = ([getattr(part, name) for part in parts] for name in ("scale", "zero_point", "multiplier"))
    return QParams(*(None if field[0] is None else join(field) for field in fields))  # type: ignore[arg-type]  # a scale is always there


def _by_channel(blocks: list[QParams], fmt: NumberFormat) -> QParams:
    """``(channels, groups)`` from the blocks of some channels."""
    if fmt.group_size is None:
        return blocks[0]
    return combined(lambda parts: torch.cat([part.squeeze(-1) for part in parts], dim=1), blocks)
