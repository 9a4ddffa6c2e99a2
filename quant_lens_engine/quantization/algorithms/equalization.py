"""Cross-layer equalisation (Nagel et al. 2019, arXiv:1906.04721): consecutive layers are rescaled against each other
so that no channel's weights are far larger than another's.

For a channel that leaves one layer with range r₁ and enters the next with range r₂, s = √(r₁/r₂): the first layer's
row is divided by s, the second's column multiplied. Between the two only operations with f(c·x) = c·f(x) may lie
(ReLU, pooling, dropout); a batch normalisation is taken as folded. The function stays as it is.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from quant_lens_engine.quantization.algorithms import ALGORITHMS, Phase, refuse_float
from quant_lens_engine.quantization.algorithms.batchnorm_folding import channel_factors
from quant_lens_engine.quantization.draft import Draft
from quant_lens_engine.quantization.layer_chains import LayerChain, find_chains
from quant_lens_engine.quantization.layer_inputs import by_column, by_feature
from quant_lens_engine.quantization.layers import CONVOLUTIONS, WeightSite
from quant_lens_engine.schema import QuantizationScheme, Request


class EqualizationOptions(Request):
    """When it stops.

    Attributes:
        sweeps: passes over all pairs at most.
        tolerance: it ends when no factor is further from 1.
    """

    sweeps: int = Field(default=20, ge=1, le=1000)
    tolerance: float = Field(default=1e-3, gt=0)


class Equalization:
    """Balance the ranges of consecutive layers."""

    description = "ranges of consecutive layers balanced, channel by channel (CLE, arXiv:1906.04721)"
    phase: Phase = "prepare"
    place = 1
    needs_calibration = False
    passes = 1.0
    options: ClassVar[type[Request]] = EqualizationOptions

    def check(self, scheme: QuantizationScheme) -> None:
        """Any scheme that rounds weights."""
        refuse_float("equalize", scheme)

    def apply(self, draft: Draft, options: EqualizationOptions) -> None:
        """Sweep over all pairs until they agree."""
        sites = {site.module: site for site in draft.survey.sites if site.layer == site.module}
        chains = find_chains(draft.model, set(sites), "equalize")
        pairs = [
            _Pair(draft, sites[chain.first], sites[chain.second], chain.normalization)
            for chain in chains
            if chain.second is not None and _can_be_scaled(draft, sites[chain.first], sites[chain.second], chain)
        ]
        if not pairs:
            draft.notes.append(
                "equalize: no two layers follow each other through ReLU or pooling alone; nothing changed"
            )
            return
        for _ in range(options.sweeps):
            furthest = max(pair.balance() for pair in pairs)
            if furthest < options.tolerance:
                break
        for pair in pairs:
            draft.smooth([pair.second], pair.factors)
        draft.notes.append(f"equalize: {len(pairs)} pairs of layers")


class _Pair:
    """Two layers in turn, and what has been moved from one to the other."""

    def __init__(self, draft: Draft, first: WeightSite, second: WeightSite, normalization: str | None) -> None:
        self.draft, self.first, self.second = draft, first, second
        self.module = draft.model.get_submodule(second.module)
        if normalization is not None and draft.scaling(first).rows is None:
            draft.scale(first, rows=channel_factors(draft.model, normalization))
        self.channels = len(draft.matrix(first))
        matrix = draft.matrix(second)
        self.parts = self.module.groups if isinstance(self.module, CONVOLUTIONS) else 1
        self.elements = matrix.shape[1]
        self.factors = matrix.new_ones(_features(self.module), dtype=torch.float64)

    def balance(self) -> float:
        """Move some; how far the largest factor was from 1."""
        leaving = self.draft.matrix(self.first).abs().amax(1).double()
        largest = self.draft.matrix(self.second).abs().double().reshape(self.parts, -1, self.elements).amax(1)
        # behind a flattening a channel is several features
        entering = by_feature(largest, self.module).reshape(self.channels, -1).amax(1)
        usable = (leaving > 0) & (entering > 0)
        root = (leaving / entering.clamp(min=1e-300)).sqrt().clamp(1e-4, 1e4)
        step = torch.where(usable, root, torch.ones_like(root))
        spread = step.repeat_interleave(len(self.factors) // self.channels)
        self.factors = self.factors * spread
        self.draft.scale(self.first, rows=1 / step)
        self.draft.scale(self.second, columns=by_column(spread, self.module))
        return float((step - 1).abs().max())


def _features(module: nn.Module) -> int:
    """Input features of a layer with one weight."""
    if isinstance(module, CONVOLUTIONS):
        return module.in_channels
    return int(module.in_features) if isinstance(module, nn.Linear) else 0


def _can_be_scaled(draft: Draft, first: WeightSite, second: WeightSite, chain: LayerChain) -> bool:
    """Both are linear layers or convolutions, and each channel of the first is a feature of the second; or several that
    follow each other, where a convolution's output is flattened."""
    before, behind = (draft.model.get_submodule(site.module) for site in (first, second))
    channels, features = len(draft.matrix(first)), _features(behind)
    if isinstance(before, CONVOLUTIONS) and isinstance(behind, nn.Linear):
        return chain.flattened and features % channels == 0
    alike = any(isinstance(before, kind) and isinstance(behind, kind) for kind in (nn.Linear, CONVOLUTIONS))
    return alike and channels == features


ALGORITHMS.add("equalize", Equalization())
