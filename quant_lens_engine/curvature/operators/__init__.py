"""Curvature operators over a sample: one file each, each registers itself.

======================  ===============================================================================================
hessian                 ∇²L
gauss-newton            Σ Jᵀ (∇²ℓ) J: the Hessian without the second derivatives of the network; never negative for a
                        convex loss (Schraudolph 2002)
fisher                  E_{y∼p(y|x)} of ∇log p ∇log pᵀ, with labels drawn from the model's own answers (Martens 2020,
                        arXiv:1412.1193); its expectation over draws is the Gauss-Newton matrix
fisher-exact            the same with the expectation over labels taken exactly: Gauss-Newton of a softmax, but not of
                        log-probabilities or smoothed labels
empirical-fisher        the same with the data's labels; no estimate of the Hessian (Kunstner et al. 2019,
                        arXiv:1905.12558)
======================  ===============================================================================================
"""

from __future__ import annotations

import sys
from typing import Any

from quant_lens_engine.curvature.sample_operator import SampleOperator
from quant_lens_engine.registry import Registry, load_rooms

OPERATORS: Registry[type[SampleOperator[Any]]] = Registry("curvature operator")

load_rooms(sys.modules[__name__])
