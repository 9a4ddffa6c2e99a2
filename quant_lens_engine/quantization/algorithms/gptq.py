"""GPTQ (Frantar et al. 2022, arXiv:2210.17323): columns are rounded one by one, and what each loses is made up by the
columns still to come, as the inputs' second moments H = 2 Σ x xᵀ say (the *layer-output* Hessian, not the loss')."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from quant_lens_engine.quantization.activation import non_finite_activations
from quant_lens_engine.quantization.algorithms import ALGORITHMS, Phase, refuse_float
from quant_lens_engine.quantization.blocks import block_qparams, tensor_span
from quant_lens_engine.quantization.draft import Draft
from quant_lens_engine.quantization.grid import Grid, combined, observe_grid
from quant_lens_engine.quantization.layer_inputs import measure_moments
from quant_lens_engine.quantization.layers import WeightSite
from quant_lens_engine.quantizers import QParams, Range
from quant_lens_engine.schema import QuantizationScheme, Request


class GptqOptions(Request):
    """How GPTQ runs.

    Attributes:
        act_order: columns with the largest inputs first; groups are then observed before any column is rounded.
        damping: added to the diagonal of H, as a part of its mean.
        block: columns whose corrections are put off and made together.
        sequential: each layer sees inputs from layers that are rounded already; otherwise the float model's.
    """

    act_order: bool = False
    damping: float = Field(default=0.01, gt=0, lt=1)
    block: int = Field(default=128, ge=1)
    sequential: bool = True


class Gptq:
    """Column by column."""

    description = "columns one by one, errors made up by the others (GPTQ, arXiv:2210.17323)"
    phase: Phase = "round"
    place = 0
    needs_calibration = True
    passes = 25.0
    options: ClassVar[type[Request]] = GptqOptions

    def check(self, scheme: QuantizationScheme) -> None:
        """Any format that rounds a weight by itself at given qparams."""
        refuse_float("gptq", scheme)

    def apply(self, draft: Draft, options: GptqOptions) -> None:
        """Layer by layer, in the order in which they run."""
        sites = draft.sites_with_inputs("gptq")
        check = draft.progress.check_cancelled
        moments = {} if options.sequential else measure_moments(draft.rows, sites, check_cancelled=check)
        for index, site in enumerate(sites):
            draft.tell(f"GPTQ: {site.layer}", index, len(sites))
            if options.sequential:
                moments |= measure_moments(
                    draft.rows, [site], point=draft.point(), through=draft.forward, check_cancelled=check
                )
            # the second moments of a whole network need not fit in memory
            gram, moments[site.parameter].gram = moments[site.parameter].gram, None
            if gram is not None:
                chosen, grid = round_columns(draft.matrix(site), gram, draft, site, options)
                draft.decide(site, chosen, grid)
        draft.reached("gptq", sites, moments)


def round_columns(
    matrix: Tensor, gram: Tensor, draft: Draft, site: WeightSite, options: GptqOptions
) -> tuple[Tensor, Grid]:
    """The chosen values ``(channels, elements)`` and the grid that they lie on.

    Args:
        matrix: the weight.
        gram: second moments of its inputs ``(parts, elements, elements)``.
        draft: says how qparams are observed.
        site: the weight's place, for the transformation of its inputs.
        options: see :class:`GptqOptions`.
    """
    gram = draft.scaling(site).seen_by(gram)
    grid = draft.observe(matrix, draft.scheme)
    in_groups = grid.group is not None and draft.scheme.granularity == "group"
    anew = in_groups and not options.act_order and draft.observe is observe_grid
    channels = len(matrix) // len(gram)
    whole = tensor_span(matrix, draft.scheme)
    values, found = [], []
    for first, part in zip(range(0, len(matrix), channels), gram, strict=True):
        rows = slice(first, first + channels)
        rounding = _ColumnByColumn(matrix[rows], part, grid.rows(rows), options)
        values.append(rounding.in_groups(whole) if anew else rounding.at_fixed_qparams())
        found += rounding.qparams
    qparams = combined(torch.cat, found) if anew else grid.qparams
    return torch.cat(values), Grid(draft.scheme, qparams, grid.group)


class _ColumnByColumn:
    """The channels that see the same inputs."""

    def __init__(self, matrix: Tensor, gram: Tensor, grid: Grid, options: GptqOptions) -> None:
        self.grid, self.block, self.dtype = grid, options.block, matrix.dtype
        natural = torch.arange(len(gram), device=gram.device)
        self.order = gram.diagonal().argsort(descending=True, stable=True) if options.act_order else natural
        self.remaining = matrix.double()[:, self.order]
        self.factor = inverse_factor(gram[self.order][:, self.order], options.damping)
        self.chosen = torch.empty_like(self.remaining)
        self.qparams: list[QParams] = []

    def at_fixed_qparams(self) -> Tensor:
        """Every column on the given grid."""
        for first in range(0, self.remaining.shape[1], self.block):
            self._round_block(first, self.grid, self.order[first : first + self.block])
        restored = torch.empty_like(self.chosen)
        restored[:, self.order] = self.chosen
        return restored.to(self.dtype)

    def in_groups(self, whole: Range | None) -> Tensor:
        """Each group on qparams that are observed when its turn comes, with all corrections made."""
        size = self.grid.group or 1
        found = []
        for first in range(0, self.remaining.shape[1], size):
            block = self.remaining[:, first : first + size].to(self.dtype)
            group = Grid(self.grid.fmt, block_qparams(block, self.grid.fmt, whole))
            found.append(group.qparams)
            self.block = size
            self._round_block(first, group, torch.arange(size, device=block.device))
        self.qparams = [combined(lambda parts: torch.cat(parts, dim=1), found)]
        return self.chosen.to(self.dtype)

    def _round_block(self, first: int, grid: Grid, places: Tensor) -> None:
        """Round some columns, each correcting the rest of the block, then correct the columns behind it.

        Args:
            first: column where the block begins.
            grid: the values that its weights can take.
            places: where each of its columns stands in the grid.
        """
        last = min(first + self.block, self.remaining.shape[1])
        errors = torch.zeros_like(self.remaining[:, first:last])
        for index, column in enumerate(range(first, last)):
            values = self.remaining[:, column : column + 1]
            rounded = grid.nearest(values.to(self.dtype), places[index : index + 1]).double()
            self.chosen[:, column : column + 1] = rounded
            error = (values - rounded) / self.factor[column, column]
            self.remaining[:, column + 1 : last] -= error @ self.factor[column : column + 1, column + 1 : last]
            errors[:, index] = error[:, 0]
        self.remaining[:, last:] -= errors @ self.factor[first:last, last:]


def inverse_factor(gram: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of (H + damping · mean diagonal)⁻¹; inputs that are always 0 correct nothing.

    Example:
        >>> factor = inverse_factor(torch.eye(2, dtype=torch.float64) * 4, damping=1e-12)
        >>> round(float(factor[0, 0]), 6)
        0.5
    """
    if not bool(torch.isfinite(gram).all()):
        raise non_finite_activations("inputs of a layer are")
    hessian = gram.double().clone()
    diagonal = hessian.diagonal()
    diagonal[diagonal == 0] = diagonal.mean().clamp(min=1e-30)
    mean = float(diagonal.mean())
    while True:
        diagonal += damping * mean
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if not bool(failed):
            inverse, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(factor), upper=True)
            if not bool(failed):
                factor_of_inverse: Tensor = inverse
                return factor_of_inverse
        damping *= 10


ALGORITHMS.add("gptq", Gptq())
