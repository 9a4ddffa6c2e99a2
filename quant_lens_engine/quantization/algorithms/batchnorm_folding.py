"""Batch-norm folding: weights are rounded as they are once γ/σ of the normalisation behind has been multiplied in.

W' = diag(γ/σ)·W, b' = (b − μ)·γ/σ + β (Jacob et al. 2018, arXiv:1712.05877). Folding does not change the function,
which is checked on the calibration rows; it changes what shares a scale per tensor or per tile, and which codes are
chosen there. A scale per channel takes the factor up by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import NumericalError
from quant_lens_engine.filters import layout_of
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization.algorithms import ALGORITHMS, NoOptions, Phase, refuse_float
from quant_lens_engine.quantization.draft import Draft
from quant_lens_engine.quantization.layer_chains import find_chains
from quant_lens_engine.quantization.layers import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS
from quant_lens_engine.schema import QuantizationScheme, Request

TOLERANCE = 1e-3
"""Largest change of a row's loss by folding, in parts of the mean loss, or in nats where that is below 1."""


class BatchNormFolding:
    """Round what a deployed network stores."""

    description = "weights rounded with the batch normalisation behind them multiplied in (arXiv:1712.05877)"
    phase: Phase = "prepare"
    place = 0
    needs_calibration = True
    passes = 2.0
    options: ClassVar[type[Request]] = NoOptions

    def check(self, scheme: QuantizationScheme) -> None:
        """Any scheme that rounds weights."""
        refuse_float("fold-batchnorm", scheme)

    def apply(self, draft: Draft, options: NoOptions) -> None:  # noqa: ARG002
        """Every layer whose output goes to one batch normalisation alone."""
        sites = {
            site.module: site
            for site in draft.survey.sites
            if isinstance(draft.model.get_submodule(site.module), (nn.Linear, *CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS))
        }
        chains = [chain for chain in find_chains(draft.model, set(sites), "fold-batchnorm") if chain.normalization]
        if not chains:
            draft.notes.append(
                "fold-batchnorm: no layer's output goes to a batch normalisation alone; nothing was folded"
            )
            return
        folded = {chain.first: chain.normalization or "" for chain in chains}
        difference = _largest_difference(draft.rows, folded)
        if difference > TOLERANCE:
            raise NumericalError(
                f"folding batch normalisation changes the float model's loss by up to {difference:.1e} a row",
                hint="leave +fold-batchnorm out: a variance near zero makes folding inexact",
                code="folding_is_not_exact",
            )
        for layer, normalization in folded.items():
            draft.scale(sites[layer], rows=channel_factors(draft.model, normalization))
        draft.notes.append(
            f"fold-batchnorm: {len(folded)} layers; the float model's loss changes by at most {difference:.1e} a row"
        )


def channel_factors(model: nn.Module, normalization: str) -> Tensor:
    """γ/σ of a batch normalisation ``(channels,)``; 1 for a channel that it switches off."""
    factors = _exact_factors(model.get_submodule(normalization))
    return torch.where(factors == 0, torch.ones_like(factors), factors)


def _exact_factors(norm: nn.Module) -> Tensor:
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert isinstance(norm.running_var, Tensor)
    factors = torch.rsqrt(norm.running_var.double() + norm.eps)
    return factors if norm.weight is None else factors * norm.weight.detach().double()


def folded_network(model: nn.Module, folded: Mapping[str, str]) -> nn.Module:
    """A copy of a network in ``eval()`` mode without some of its normalisations, each folded into the layer before it.

    Args:
        model: not changed.
        folded: name of the layer → name of the normalisation right behind it.
    """
    duplicate = copy.deepcopy(model).eval()
    for layer, normalization in folded.items():
        _fold(duplicate.get_submodule(layer), duplicate.get_submodule(normalization))
        duplicate.set_submodule(normalization, nn.Identity())
    return duplicate


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """W' = diag(γ/σ)·W, b' = (b − μ)·γ/σ + β; of a transposed convolution with groups, too, which torch cannot fuse."""
    assert isinstance(layer.weight, nn.Parameter)
    assert isinstance(norm.running_mean, Tensor)
    factors = _exact_factors(norm).to(layer.weight)
    layout = layout_of(layer, "weight")
    bias = torch.zeros_like(norm.running_mean) if layer.bias is None else layer.bias
    assert isinstance(bias, Tensor)
    shifted = (bias - norm.running_mean) * factors
    with torch.no_grad():
        rows = layout.rows(layer.weight) * factors[:, None]
        layer.weight = nn.Parameter(layout.restore(rows, layer.weight.shape))
        layer.bias = nn.Parameter(shifted if not isinstance(norm.bias, Tensor) else shifted + norm.bias)


def _largest_difference(rows: Objective, folded: Mapping[str, str]) -> float:
    """Of a row's loss, between the folded and the plain network, in parts of the mean loss (or of 1, if that is
    more)."""
    plain = rows.measure(rowwise=True)
    other = rows.measure(rowwise=True, own_model=folded_network(rows.model, folded))
    size = max(1.0, abs(plain.loss.value))
    return float((plain.losses - other.losses).abs().max()) / size


ALGORITHMS.add("fold-batchnorm", BatchNormFolding())
