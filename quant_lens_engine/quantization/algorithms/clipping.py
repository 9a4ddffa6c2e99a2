"""MSE-optimal clipping: each scale holds the part of its range that loses the least squared error.

A block's largest weight is clipped where that makes the other steps enough finer (the search of Choukroun et al. 2019,
arXiv:1902.06822, and of OCTAV, arXiv:2206.06501, on a fixed set of ranges).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from quant_lens_engine.quantization.algorithms import ALGORITHMS, Phase, refuse_float
from quant_lens_engine.quantization.draft import Draft
from quant_lens_engine.quantization.grid import Grid, combined, observe_grid
from quant_lens_engine.quantizers import QParams
from quant_lens_engine.schema import QuantizationScheme, Request
from quant_lens_engine.schema.number_format import NumberFormat


class ClippingOptions(Request):
    """How ranges are tried.

    Attributes:
        smallest: the smallest range tried, as a part of the whole.
        steps: how many, from there to the whole range.
    """

    smallest: float = Field(default=0.2, gt=0, lt=1)
    steps: int = Field(default=80, ge=1, le=1000)


class ClippedGrid:
    """The grid of least squared error, observed anew on whatever weight it is given."""

    def __init__(self, options: ClippingOptions) -> None:
        self.options = options

    def __call__(self, matrix: Tensor, fmt: NumberFormat) -> Grid:
        """The best of the candidates, each block by itself."""
        best = observe_grid(matrix, fmt)
        least = _errors(matrix, best)
        for step in range(1, self.options.steps + 1):
            part = 1 - (1 - self.options.smallest) * step / self.options.steps
            candidate = observe_grid(matrix, fmt, part)
            error = _errors(matrix, candidate)
            better = error < least
            least = torch.where(better, error, least)
            qparams = _chosen(better, candidate.qparams, best.qparams)
            best = Grid(fmt, qparams, best.group)
        return best


class Clipping:
    """Search for the range."""

    description = "each scale holds the range of least squared error (MSE-optimal clipping)"
    phase: Phase = "range"
    place = 0
    needs_calibration = False
    passes = 1.0
    options: ClassVar[type[Request]] = ClippingOptions

    def check(self, scheme: QuantizationScheme) -> None:
        """Any format with a scale."""
        refuse_float("clip", scheme)

    def apply(self, draft: Draft, options: ClippingOptions) -> None:
        """From here on grids are clipped."""
        draft.observe = ClippedGrid(options)


def _chosen(better: Tensor, new: QParams, old: QParams) -> QParams:
    """The new qparams where they are better, the old ones elsewhere."""
    return combined(lambda parts: torch.where(better, parts[0], parts[1]), [new, old])


def _errors(matrix: Tensor, grid: Grid) -> Tensor:
    """Squared error of each set of qparams, in their shape."""
    squared = (grid.nearest(matrix) - matrix).square()
    if grid.fmt.granularity == "tensor":
        return squared.sum().reshape(1, 1)
    if grid.group is None:
        return squared.sum(1, keepdim=True)
    places = torch.arange(matrix.shape[1], device=matrix.device) // grid.group
    errors = squared.new_zeros(len(matrix), int(places[-1]) + 1).index_add_(1, places, squared)
    if grid.fmt.granularity == "block":
        bands = torch.arange(len(matrix), device=matrix.device) // grid.group
        errors = torch.stack([band.sum(0) for band in torch.split(errors, grid.group)])[bands]
    return errors


ALGORITHMS.add("clip", Clipping())
