"""Sharpness in norms of filters, which some scalings of a network do not change, and the worst rise within a radius.

A network with ReLU is the same function after a layer is multiplied by c and the next one divided by c, but its λmax
and its trace are not the same (Dinh et al. 2017, arXiv:1703.04933). D multiplies every weight by the norm ‖w_f‖ of its
filter; biases and normalisation parameters stay where they are, as on the landscape's lines. Then D H D

- stays as it is when a whole layer is scaled in a positive homogeneous network (ReLU), and when filters, each by a
  factor of its own, are scaled in front of a normalisation;
- does not when a single ReLU neuron is multiplied by c and its outgoing column divided by c: that column is a part of
  every filter of the next layer, whose norms do not follow it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from quant_lens_engine.curvature.gradient import moved
from quant_lens_engine.curvature.krylov import SymmetricOperator, product_error
from quant_lens_engine.curvature.lanczos import Spectrum, extreme_spectrum
from quant_lens_engine.curvature.symmetric_operator import NudgedOperator, rounds
from quant_lens_engine.filters import filter_layouts
from quant_lens_engine.objective import Objective
from quant_lens_engine.schema.curvature import WorstCase

ADAPTIVE_RADIUS = 10.0
"""ρ of ASAM in that of SAM: 0.5 and 0.05 are usual (Kwon et al. 2021, table 3)."""


class ScaledOperator:
    """v ↦ D A D v, with D diagonal.

    Args:
        operator: A.
        scales: the diagonal of D, ``(dimension,)``.

    Example:
        >>> from quant_lens_engine.curvature.dense import DenseOperator
        >>> scaled = ScaledOperator(DenseOperator(torch.eye(2)), torch.tensor([1.0, 3.0], dtype=torch.float64))
        >>> scaled.matvec(torch.ones(2, dtype=torch.float64)).tolist()
        [1.0, 9.0]
    """

    def __init__(self, operator: SymmetricOperator, scales: Tensor) -> None:
        self._operator, self._scales = operator, scales
        self.dimension, self.device = operator.dimension, operator.device

    @property
    def product_error(self) -> float:
        """At most that of A's products, scaled twice."""
        return float(self._scales.abs().max()) ** 2 * product_error(self._operator)

    def matvec(self, vector: Tensor) -> Tensor:
        """D A D · ``vector``."""
        return self._scales * self._operator.matvec(self._scales * vector)

    @property
    def rounds(self) -> bool:
        """Whether A does."""
        return rounds(self._operator)

    def nudged_product(self, vector: Tensor) -> Tensor:
        """D A′ D · ``vector``."""
        assert isinstance(self._operator, NudgedOperator)
        return self._scales * self._operator.nudged_product(self._scales * vector)


def filter_norms(objective: Objective) -> Tensor:
    """‖w_f‖ of the filter of each free parameter, 0 for vectors and scalars, ``(dimension,)``.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> objective = Objective(model, [(torch.ones(1, 2), torch.ones(1, 1))], task="regression")
        >>> filter_norms(objective.at({"weight": torch.tensor([[3.0, 4.0]])})).tolist()
        [5.0, 5.0, 0.0]
    """
    layouts = filter_layouts(objective.model)
    norms = []
    for name in objective.free:
        parameter = objective.point[name].double()
        if parameter.ndim < 2:
            norms.append(torch.zeros(parameter.numel(), dtype=torch.float64, device=parameter.device))
            continue
        rows = layouts[name].rows(parameter)
        spread = torch.linalg.vector_norm(rows, dim=1, keepdim=True).expand_as(rows)
        norms.append(layouts[name].restore(spread, parameter.shape).reshape(-1))
    return torch.cat(norms)


def relative_spectrum(
    operator: SymmetricOperator,
    scales: Tensor,
    *,
    tolerance: float,
    max_products: int,
    confidence: float,
    seed: int,
    on_step: Callable[[int], None] = lambda _: None,
) -> Spectrum:
    """The largest eigenvalue of D A D."""
    return extreme_spectrum(
        ScaledOperator(operator, scales),
        bottom=0,
        tolerance=tolerance,
        max_products=max_products,
        confidence=confidence,
        seed=seed,
        on_step=on_step,
    )


def worst_case(
    objective: Objective, gradient: Tensor, vector: Tensor, radius: float, scales: Tensor | None = None
) -> WorstCase:
    """The largest rise of the loss that is found at ‖D⁻¹ε‖ = ρ: a lower bound of the largest there is.

    Looked at are the first-order maximum ε = ρ D²g/‖Dg‖ of SAM and ASAM, and ε = ±ρ D v along the sharpest direction,
    which is the worst one where the gradient is next to nothing. Where the loss is not finite at one of them, or at w,
    the rise is not known: null.

    Args:
        objective: at the point w.
        gradient: g = ∇L(w), ``(dimension,)``.
        vector: v, the unit eigenvector of the largest eigenvalue of D H D, ``(dimension,)``.
        radius: ρ.
        scales: the diagonal of D; None for the identity.
    """
    scales = torch.ones_like(vector) if scales is None else scales
    uphill = scales * gradient
    length = float(torch.linalg.vector_norm(uphill))
    steps = [scales * vector, -scales * vector]
    if length > 0:
        steps.append(scales * uphill / length)
    at_rest = objective.loss()
    rises = [objective.loss(moved(objective, radius * step)) - at_rest for step in steps]
    known = all(math.isfinite(rise) for rise in rises)
    return WorstCase(radius=radius, rise=max(0.0, *rises) if known else None)
