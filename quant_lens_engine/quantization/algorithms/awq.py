"""AWQ (Lin et al. 2023, arXiv:2306.00978): input channels that carry large activations are scaled up before rounding.

The factors are s = (mean |x|)^α, with α in [0, 1] searched for each input so that the layers that read it lose the
least output error ‖(W − Q(W·s)/s) x‖². Layers that read the same tensor share s, as they must where the factor is
folded into the layer before; where it cannot be folded a deployment multiplies by 1/s as it runs.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from quant_lens_engine.quantization.algorithms import ALGORITHMS, Phase, not_defined, refuse_float
from quant_lens_engine.quantization.draft import Draft, output_error
from quant_lens_engine.quantization.layer_inputs import InputWatch, Moments, by_column, by_feature, measure_moments
from quant_lens_engine.quantization.layers import WeightSite
from quant_lens_engine.quantization.rounding import Scaling
from quant_lens_engine.schema import QuantizationScheme, Request


class AwqOptions(Request):
    """The search for α.

    Attributes:
        steps: values of α from 0 (no scaling) to just below 1.
    """

    steps: int = Field(default=20, ge=1, le=200)


class Awq:
    """Scale what matters."""

    description = "input channels with large activations scaled up, by search (AWQ, arXiv:2306.00978)"
    phase: Phase = "prepare"
    place = 3
    needs_calibration = True
    passes = 30.0
    options: ClassVar[type[Request]] = AwqOptions

    def check(self, scheme: QuantizationScheme) -> None:
        """Weights only: with rounded activations SmoothQuant balances both sides."""
        refuse_float("awq", scheme)
        if scheme.activations is not None:
            raise not_defined(
                "awq", scheme, "it looks at weights only", "for rounded activations there is +smoothquant"
            )

    def apply(self, draft: Draft, options: AwqOptions) -> None:
        """For each tensor that layers read, the best α."""
        sites = draft.sites_with_inputs("awq")
        moments = measure_moments(draft.rows, sites, check_cancelled=draft.progress.check_cancelled)
        sites = draft.reached("awq", sites, moments)
        groups = InputWatch(draft.rows, sites, None).shared_inputs()
        for index, group in enumerate(groups):
            draft.tell(f"AWQ: {group[0].layer}", index, len(groups))
            factors = _search(draft, group, moments, options)
            if factors is None:
                continue
            for site in group:
                draft.scale(site, columns=by_column(factors, draft.model.get_submodule(site.module)))


def _search(draft: Draft, group: list[WeightSite], moments: dict[str, Moments], options: AwqOptions) -> Tensor | None:
    """The factors of the features ``(features,)`` that lose least; None where no scaling is best."""
    magnitude = torch.stack([_mean_magnitude(draft, site, moments[site.parameter]) for site in group]).amax(0)
    found, least = None, sum(_lost(draft, site, moments[site.parameter], None) for site in group)
    for step in range(1, options.steps):
        factors = magnitude.clamp(min=1e-4 * float(magnitude.amax().clamp(min=1e-30))) ** (step / options.steps)
        factors = factors / (factors.amax() * factors.amin()).sqrt()
        lost = sum(_lost(draft, site, moments[site.parameter], factors) for site in group)
        if lost < least:
            found, least = factors, lost
    return found


def _mean_magnitude(draft: Draft, site: WeightSite, moments: Moments) -> Tensor:
    assert moments.magnitude is not None
    assert moments.count is not None
    return by_feature(moments.magnitude / moments.count[:, None], draft.model.get_submodule(site.module))


def _lost(draft: Draft, site: WeightSite, moments: Moments, factors: Tensor | None) -> float:
    """The output error of a layer under these factors, relative to its output."""
    assert moments.gram is not None
    matrix = draft.matrix(site)
    columns = None if factors is None else by_column(factors, draft.model.get_submodule(site.module))
    scaling = Scaling(columns=columns)
    scaled = scaling.apply(matrix)
    rounded = scaling.undo(draft.observe(scaled, draft.scheme).nearest(scaled))
    gram = draft.scaling(site).seen_by(moments.gram)
    output = float(output_error(matrix, gram).sum())
    return float(output_error(rounded - matrix, gram).sum()) / output if output else 0.0


ALGORITHMS.add("awq", Awq())
