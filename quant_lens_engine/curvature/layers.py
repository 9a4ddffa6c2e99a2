"""The largest eigenvalue of each layer's block of the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from quant_lens_engine.curvature.hessian_products import HessianProducts
from quant_lens_engine.curvature.lanczos import Spectrum, extreme_spectrum
from quant_lens_engine.objective import Objective

LAYER_TOLERANCE = 1e-2
"""Layers are compared with each other: two digits are enough."""

MOST_PRODUCTS = 40
"""Of one layer."""


class LayerSpectrum(NamedTuple):
    """A layer's block, and its products in those of the whole network, by their share of the parameters."""

    spectrum: Spectrum
    cost: float


def slices_of(objective: Objective, names: Sequence[str]) -> list[slice]:
    """Where parameters lie in the flat vector of the free ones; those that are not free are left out."""
    found, start = [], 0
    for name in objective.free:
        end = start + objective.point[name].numel()
        if name in names:
            found.append(slice(start, end))
        start = end
    return found


def layer_spectrum(
    objective: Objective,
    names: Sequence[str],
    *,
    tolerance: float,
    confidence: float,
    seed: int,
    products: Callable[[Objective], HessianProducts],
) -> LayerSpectrum | None:
    """λmax of the block of these parameters; None where none of them is free.

    A block's products go through the part of the network that depends on it, and no other parameter's derivative is
    taken. The process starts at random: from the layer's part of the whole Hessian's eigenvectors it comes no sooner to
    its end, since a start that is given needs a second process for its bound.

    Args:
        objective: at the point of interest.
        names: the layer's weights.
        tolerance: relative; :data:`LAYER_TOLERANCE` where that is more.
        confidence: of the interval.
        seed: of the start vector.
        products: the Hessian of an objective.
    """
    free = [name for name in objective.free if name in names]
    if not free:
        return None
    block = objective.only(free)
    operator = products(block)
    spectrum = extreme_spectrum(
        operator,
        bottom=0,
        tolerance=max(tolerance, LAYER_TOLERANCE),
        max_products=MOST_PRODUCTS,
        confidence=confidence,
        seed=seed,
    )
    return LayerSpectrum(spectrum, operator.products * block.dimension / objective.dimension)
