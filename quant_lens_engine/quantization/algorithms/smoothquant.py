"""SmoothQuant (Xiao et al. 2022, arXiv:2211.10438): outliers of activations are moved into the weights behind them.

The factor of input feature j is s_j = max |x_j|^α / max |W_:j|^(1 − α). The activation is divided by it before it is
rounded, the weight's column multiplied. Layers that read the same tensor share s, so that a deployment can fold 1/s
into the layer before.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from quant_lens_engine.quantization.algorithms import ALGORITHMS, Phase, not_defined
from quant_lens_engine.quantization.draft import Draft
from quant_lens_engine.quantization.layer_inputs import InputWatch, Moments, by_column, by_feature, measure_moments
from quant_lens_engine.quantization.layers import WeightSite
from quant_lens_engine.quantization.rounding import per_part
from quant_lens_engine.schema import QuantizationScheme, Request


class SmoothQuantOptions(Request):
    """How much is moved.

    Attributes:
        alpha: 0 leaves activations as they are, 1 makes all of their features alike.
    """

    alpha: float = Field(default=0.5, ge=0, le=1)


class SmoothQuant:
    """Balance activations and weights."""

    description = "outliers of activations moved into the weights (SmoothQuant, arXiv:2211.10438)"
    phase: Phase = "prepare"
    place = 2
    needs_calibration = True
    passes = 10.0
    options: ClassVar[type[Request]] = SmoothQuantOptions

    def check(self, scheme: QuantizationScheme) -> None:
        """Where activations are rounded."""
        if scheme.activations is None:
            hint = "name one that rounds activations, such as w8a8; for weights alone there is +awq"
            raise not_defined("smoothquant", scheme, "its activations stay in float", hint)

    def apply(self, draft: Draft, options: SmoothQuantOptions) -> None:
        """For each tensor that layers read."""
        sites = draft.sites_with_inputs("smoothquant")
        moments = measure_moments(draft.rows, sites, second=False, check_cancelled=draft.progress.check_cancelled)
        sites = draft.reached("smoothquant", sites, moments)
        groups = InputWatch(draft.rows, sites, None).shared_inputs()
        for index, group in enumerate(groups):
            draft.tell(f"SmoothQuant: {group[0].layer}", index, len(groups))
            factors = _factors(draft, group, moments, options.alpha)
            for site in group:
                draft.scale(site, columns=by_column(factors, draft.model.get_submodule(site.module)))
            draft.smooth(group, factors)


def _factors(draft: Draft, group: list[WeightSite], moments: dict[str, Moments], alpha: float) -> Tensor:
    activation, weight = [], []
    for site in group:
        module, largest = draft.model.get_submodule(site.module), moments[site.parameter].largest
        assert largest is not None
        matrix = draft.matrix(site).abs()
        activation.append(by_feature(largest.to(matrix), module))
        weight.append(by_feature(per_part(matrix, len(largest)).amax(1), module))
    x, w = torch.stack(activation).amax(0), torch.stack(weight).amax(0)
    factors = x**alpha / w.clamp(min=1e-30) ** (1 - alpha)
    usable = (x > 0) & (w > 0) & torch.isfinite(factors)
    return torch.where(usable, factors, torch.ones_like(factors)).clamp(1e-5, 1e5)


ALGORITHMS.add("smoothquant", SmoothQuant())
