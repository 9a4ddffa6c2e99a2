"""Bias correction (Nagel et al. 2019, arXiv:1906.04721 §4.2; Finkelstein et al. 2019, arXiv:1906.03193): rounding moves
the mean of a layer's output, and the bias takes it back.

Δb = W·E[y] − Q(W)·E[x] over the calibration rows, with y the float model's inputs and x those behind the layers that
are rounded and corrected already. A layer without a bias passes the correction on to the batch normalisation behind
it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant_lens_engine.quantization.algorithms import ALGORITHMS, NoOptions, Phase
from quant_lens_engine.quantization.algorithms.batchnorm_folding import channel_factors
from quant_lens_engine.quantization.blocks import working
from quant_lens_engine.quantization.draft import Draft
from quant_lens_engine.quantization.layer_chains import find_chains
from quant_lens_engine.quantization.layer_inputs import measure_moments, role_of
from quant_lens_engine.quantization.layers import WeightSite
from quant_lens_engine.quantization.rounding import per_part
from quant_lens_engine.schema import QuantizationScheme, Request


class BiasCorrection:
    """Take back what rounding does on average."""

    description = "biases take back what rounding does to each channel's mean (arXiv:1906.04721)"
    phase: Phase = "correct"
    place = 0
    needs_calibration = True
    passes = 25.0
    options: ClassVar[type[Request]] = NoOptions

    def check(self, scheme: QuantizationScheme) -> None:
        """Any scheme: rounded activations move means too."""

    def apply(self, draft: Draft, options: NoOptions) -> None:  # noqa: ARG002
        """Layer by layer, in the order in which they run."""
        sites = draft.sites_with_inputs("bias-correction")
        reference = measure_moments(draft.rows, sites, second=False, check_cancelled=draft.progress.check_cancelled)
        sites = draft.reached("bias-correction", sites, reference)
        behind = _normalizations(draft, sites)
        without = []
        for index, site in enumerate(sites):
            target = _target(draft, site, behind)
            if target is None:
                without.append(site.layer)
                continue
            draft.tell(f"bias correction: {site.layer}", index, len(sites))
            point = draft.point()
            here = measure_moments(
                draft.rows, [site], second=False, point=point, through=draft.forward,
                check_cancelled=draft.progress.check_cancelled,
            )[site.parameter]  # fmt: skip
            if not here.seen:
                continue
            weight, rounded = (
                working(site.layout.rows(source[site.parameter])).double() for source in (draft.weights, point)
            )
            moved = _output(weight, reference[site.parameter].mean) - _output(rounded, here.mean)
            parameter, factors, first = target
            shift = moved if factors is None else moved * factors
            behind_it = len(draft.weights[parameter]) - first - len(shift)
            shift = F.pad(shift, (first, behind_it))
            known = draft.shifts.get(parameter)
            draft.shifts[parameter] = shift if known is None else known + shift
        if without:
            draft.notes.append(
                f"bias-correction: {', '.join(without)} have neither a bias nor a batch normalisation behind"
            )


def _output(matrix: Tensor, mean: Tensor) -> Tensor:
    """The mean output of each channel ``(channels,)``."""
    return (per_part(matrix, len(mean)) @ mean[:, :, None]).flatten()


def _target(draft: Draft, site: WeightSite, behind: dict[str, str]) -> tuple[str, Tensor | None, int] | None:
    """The parameter that takes the correction, what it is multiplied with there, and where in it it begins; None where
    there is none."""
    module = draft.model.get_submodule(site.module)
    key = "in_proj_bias" if isinstance(module, nn.MultiheadAttention) else "bias"
    bias = getattr(module, key, None)
    names = {parameter: name for name, parameter in draft.model.named_parameters()}
    if isinstance(bias, nn.Parameter):
        place = ("query", "key", "value").index(role_of(site) or "query")
        return names[bias], None, place * len(draft.matrix(site))
    if site.module in behind:
        norm = draft.model.get_submodule(behind[site.module])
        if isinstance(norm.bias, nn.Parameter):
            return names[norm.bias], channel_factors(draft.model, behind[site.module]), 0
    return None


def _normalizations(draft: Draft, sites: list[WeightSite]) -> dict[str, str]:
    """Layers without a bias whose output goes to one batch normalisation alone."""
    needing = {site.module for site in sites if getattr(draft.model.get_submodule(site.module), "bias", None) is None}
    batch_norms = any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in draft.model.modules())
    if not needing or not batch_norms:
        return {}
    chains = find_chains(draft.model, needing, "bias-correction")
    return {chain.first: chain.normalization for chain in chains if chain.normalization is not None}


ALGORITHMS.add("bias-correction", BiasCorrection())
