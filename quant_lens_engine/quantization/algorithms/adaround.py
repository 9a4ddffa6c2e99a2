"""AdaRound (Nagel et al. 2020, arXiv:2004.10568): for each weight, up or down is learned so that the layer's output
changes least.

The layer's error is taken on all calibration rows at once, from second moments: ‖W y − W̃ x‖² with y the float model's
inputs and x those behind the layers that are rounded already. What is minimised is that error, relative to rounding to
nearest, and the paper's regulariser that drives each choice to 0 or 1.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from quant_lens_engine.quantization.algorithms import ALGORITHMS, Phase, not_defined
from quant_lens_engine.quantization.draft import Draft, output_error
from quant_lens_engine.quantization.grid import Grid
from quant_lens_engine.quantization.layer_inputs import Moments, measure_against_float
from quant_lens_engine.quantization.rounding import Scaling, per_part
from quant_lens_engine.schema import QuantizationScheme, Request

_ZETA, _GAMMA = 1.1, -0.1
"""The stretched sigmoid: a choice reaches 0 and 1 at finite values."""


class AdaRoundOptions(Request):
    """How rounding is learned.

    Attributes:
        steps: of Adam, a layer.
        learning_rate: of Adam.
        regularization: weight of the regulariser against the layer's error, in parts of the error of rounding to
            nearest: below 1 choices stay open until the end, and are then rounded to nearest after all.
        warm_up: part of the steps without it.
    """

    steps: int = Field(default=1000, ge=1, le=100_000)
    learning_rate: float = Field(default=0.01, gt=0)
    regularization: float = Field(default=10.0, gt=0)
    warm_up: float = Field(default=0.2, ge=0, lt=1)


class AdaRound:
    """Up or down, learned."""

    description = "up or down learned for each weight (AdaRound, arXiv:2004.10568)"
    phase: Phase = "round"
    place = 0
    needs_calibration = True
    passes = 100.0
    options: ClassVar[type[Request]] = AdaRoundOptions

    def check(self, scheme: QuantizationScheme) -> None:
        """Integer codes: up and down are one step apart."""
        if scheme.format != "integer":
            hint = "for this format there is +gptq or +clip"
            raise not_defined("adaround", scheme, "it learns a step up or down between integer codes", hint)

    def apply(self, draft: Draft, options: AdaRoundOptions) -> None:
        """Layer by layer, in the order in which they run."""
        sites = draft.sites_with_inputs("adaround")
        found: dict[str, Moments] = {}
        for index, site in enumerate(sites):
            draft.tell(f"AdaRound: {site.layer}", index, len(sites))
            moments = measure_against_float(
                draft.rows, site, draft.point(), draft.forward, draft.progress.check_cancelled
            )
            if moments.seen:
                grid, matrix = draft.grid(site), draft.matrix(site)
                problem = _Reconstruction(matrix, moments, draft.scaling(site))
                draft.decide(site, _learned(matrix, grid, problem, options), grid)
            found[site.parameter] = Moments(count=moments.count)
        draft.reached("adaround", sites, found)


class _Reconstruction:
    """The layer's error ‖W y − W̃ x‖² as a quadratic function of its rounded matrix, up to a constant.

    Args:
        matrix: W ``(channels, elements)``.
        moments: of the inputs x, and crosswise with the float model's inputs y.
        scaling: the transformation that the matrix is in.
    """

    def __init__(self, matrix: Tensor, moments: Moments, scaling: Scaling) -> None:
        assert moments.gram is not None
        assert moments.cross is not None
        self.gram = scaling.seen_by(moments.gram)
        self.linear = per_part(matrix.double(), len(self.gram)) @ scaling.seen_by(moments.cross)

    def gradient(self, rounded: Tensor) -> Tensor:
        """By W̃ ``(channels, elements)``."""
        parts = per_part(rounded, len(self.gram))
        return 2 * (parts @ self.gram - self.linear).flatten(0, 1)

    def error(self, rounded: Tensor) -> Tensor:
        """For each channel ``(channels,)``."""
        parts = per_part(rounded.double(), len(self.gram))
        return ((parts @ self.gram - 2 * self.linear) * parts).sum(-1).flatten()


def _learned(matrix: Tensor, grid: Grid, problem: _Reconstruction, options: AdaRoundOptions) -> Tensor:
    """The chosen values; a channel for which nearest is no worse keeps it."""
    nearest = grid.nearest(matrix)
    columns = torch.arange(matrix.shape[1], device=matrix.device)
    scale = grid.at(columns).scale.expand_as(matrix)
    below = (matrix / scale).floor()
    variable = _logit(matrix / scale - below).double().requires_grad_()
    lost = float(output_error(nearest - matrix, problem.gram).sum())
    weight = matrix.numel() / max(lost, 1e-30)
    optimizer = torch.optim.Adam([variable], lr=options.learning_rate)
    for step in range(options.steps):
        with torch.enable_grad():
            up = _stretched(variable)
            rounded = (below + up) * scale.double()
            penalty = _regularizer(up, step, options)
        outer = [weight * problem.gradient(rounded.detach()), torch.ones_like(penalty)]
        variable.grad = torch.autograd.grad([rounded, penalty], variable, outer)[0]
        optimizer.step()
    decided = (below + (variable.detach() >= 0)) * scale
    chosen = grid.nearest(decided.to(matrix.dtype))
    better = problem.error(chosen) < problem.error(nearest)
    return torch.where(better[:, None], chosen, nearest)


def _stretched(variable: Tensor) -> Tensor:
    return (torch.sigmoid(variable) * (_ZETA - _GAMMA) + _GAMMA).clamp(0, 1)


def _logit(share: Tensor) -> Tensor:
    """The inverse of :func:`_stretched`."""
    return -torch.log((_ZETA - _GAMMA) / (share.clamp(0, 1) - _GAMMA) - 1)


def _regularizer(up: Tensor, step: int, options: AdaRoundOptions) -> Tensor:
    """Σ 1 − |2h − 1|^β, with β falling from 20 to 2 after the warm-up: choices settle from the outside in."""
    begin = options.warm_up * options.steps
    if step < begin:
        return (up * 0).sum()
    done = (step - begin) / max(1.0, options.steps - begin)
    beta = 2 + 18 * (1 + math.cos(math.pi * done)) / 2
    return options.regularization * (1 - (2 * up - 1).abs().pow(beta)).sum()


ALGORITHMS.add("adaround", AdaRound())
