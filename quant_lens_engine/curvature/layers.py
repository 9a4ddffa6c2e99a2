"""The largest eigenvalue of each layer's block of the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from quant_lens_engine.curvature.dense import DenseOperator
from quant_lens_engine.curvature.hessian_products import HessianProducts
from quant_lens_engine.curvature.krylov import product_error, products_with
from quant_lens_engine.curvature.lanczos import Spectrum, extreme_spectrum
from quant_lens_engine.objective import Objective

LAYER_TOLERANCE = 1e-2
"""Layers are compared with each other: two digits are enough."""

MOST_PRODUCTS = 40
"""Of one layer."""


SMALL = 64
"""Weights of a layer whose block is written down whole."""


_EXACT = 1e-10


class LayerSpectrum(NamedTuple):
    """A layer's block.

    Attributes:
        spectrum: its largest eigenvalue.
        cost: products in those of the whole network, by their share of the parameters.
        trace: exact, where the block is :data:`SMALL`.
    """

    spectrum: Spectrum
    cost: float
    trace: float | None = None
    trace_error: float = 0.0


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
    its end, since a start that is given needs a second process for its bound. A small block is formed and symmetrised.

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
    matrix = None
    error = 0.0
    if block.dimension <= SMALL:
        matrix = products_with(operator, torch.eye(block.dimension, dtype=torch.float64, device=block.device))
        error = product_error(operator)
    spectrum = extreme_spectrum(
        operator if matrix is None else DenseOperator((matrix + matrix.T) / 2, error),
        bottom=0,
        tolerance=max(tolerance, LAYER_TOLERANCE) if matrix is None else _EXACT,
        max_products=MOST_PRODUCTS if matrix is None else 4 * SMALL,  # of the matrix: they cost nothing
        confidence=confidence,
        seed=seed,
    )
    cost = operator.products * block.dimension / objective.dimension
    trace = None if matrix is None else float(matrix.trace())
    return LayerSpectrum(spectrum, cost, trace, error * block.dimension)
