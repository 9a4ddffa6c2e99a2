"""Curvature in one call: a model, a loader and a criterion in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quant_lens_engine.curvature.arguments import check_arguments
from quant_lens_engine.curvature.density import SpectralDensity, lanczos_density
from quant_lens_engine.curvature.interval import Array
from quant_lens_engine.curvature.krylov_trace import krylov_trace
from quant_lens_engine.curvature.lanczos import Spectrum, extreme_spectrum
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.operators.hessian import HessianOperator
from quant_lens_engine.curvature.records import eigenvalue_record, rounding_of
from quant_lens_engine.curvature.sample_operator import SampleOperator
from quant_lens_engine.curvature.spectrum_end import EndOfSpectrum
from quant_lens_engine.objective import Objective

Loss = nn.Module | Callable[..., Tensor] | None


@dataclass(frozen=True)
class EndEigenvalues:
    """Eigenvalues of one end of the spectrum, the outermost first, with multiplicity; all ``(k,)``, in loss units.

    Attributes:
        values: the Ritz values.
        residuals: ‖Hv − λv‖ of each.
        lower: lower end of the interval that holds each, at the confidence that was asked for; NaN where there is none
            (the process was cut off before it had looked).
        upper: upper end.
    """

    values: Array
    residuals: Array
    lower: Array
    upper: Array


@dataclass(frozen=True)
class TopEigenvalues(EndEigenvalues):
    """The largest eigenvalues of the loss Hessian, descending.

    Attributes:
        hvps: whole-sample Hessian-vector products.
        converged: within the tolerance, and nothing beyond was missed at that confidence: of the largest none, of the
            smallest, which lie close together, not the first.
        bottom: the smallest eigenvalues, ascending; None where none was asked for.
    """

    hvps: int
    converged: bool
    bottom: EndEigenvalues | None = None


@dataclass(frozen=True)
class TraceOfHessian:
    """Tr ∇²L in loss units, its standard error over probes (infinite for a single one), and the products it took."""

    value: float
    standard_error: float
    hvps: int


def top_eigenvalues(
    model: nn.Module,
    loader: Iterable[Any],
    criterion: Loss = None,
    k: int = 5,
    tol: float = 1e-3,
    seed: int = 0,
    *,
    bottom: int = 0,
    confidence: float = 0.95,
    max_products: int = 1000,
    operator: str = "hessian",
    **objective: Any,
) -> TopEigenvalues:
    """The ``k`` largest (algebraic) eigenvalues of the loss Hessian, or of another operator, over all of ``loader``;
    with ``bottom``, as many of the smallest from the same process.

    Args:
        model: untouched; see :class:`~quant_lens_engine.objective.Objective`.
        loader: batches, read once.
        criterion: None for cross-entropy.
        k: how many; at most the number of free parameters.
        tol: relative accuracy.
        seed: of the start vectors.
        bottom: how many of the smallest, which are negative where the loss curves down.
        confidence: of the intervals.
        max_products: cap on products.
        operator: one of :data:`~quant_lens_engine.curvature.operators.OPERATORS`, such as ``gauss-newton``.
        objective: of :class:`~quant_lens_engine.objective.Objective`: ``task``, ``forward``, ``device``, ``dtype``,
            ``micro_batch``, ``sample_weights``, ``parameters``.

    Raises:
        InputError: ``bad_argument``: one of them is out of its range.

    Example:
        >>> model = nn.Linear(3, 1, bias=False)
        >>> data = [(torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]), torch.zeros(3, 1))]
        >>> found = top_eigenvalues(model, data, nn.MSELoss(), k=2, bottom=1)
        >>> found.values.round(4).tolist(), found.bottom.values.round(4).tolist()
        ([6.0, 2.6667], [0.6667])
        >>> bool(found.lower[0] <= 6.0 <= found.upper[0])
        True
    """
    check_arguments(k=k, tol=tol, bottom=bottom, confidence=confidence, max_products=max_products)
    chosen = OPERATORS[operator](Objective(model, loader, criterion, **objective))
    found = extreme_spectrum(
        chosen, top=k, bottom=bottom, tolerance=tol, max_products=max_products, seed=seed, confidence=confidence
    )
    ends = [_with_intervals(end, found, chosen, confidence) for end in (found.top, found.bottom)]
    return TopEigenvalues(
        **vars(ends[0]), hvps=chosen.products, converged=found.converged, bottom=ends[1] if bottom else None
    )


def _with_intervals(
    end: EndOfSpectrum, spectrum: Spectrum, operator: SampleOperator[Any], confidence: float
) -> EndEigenvalues:
    """An interval reaches from the Ritz value outwards to its bound, and either way by the rounding of the products."""
    precision = float(torch.finfo(operator.objective.point[operator.objective.free[0]].dtype).eps)
    rounding = rounding_of(spectrum, precision)
    found = [eigenvalue_record(end, index, rounding, confidence) for index in range(len(end.values))]
    return EndEigenvalues(
        np.array(end.values),
        np.array(end.residuals),
        np.array([np.nan if item.lower is None else item.lower for item in found]),
        np.array([np.nan if item.upper is None else item.upper for item in found]),
    )


def trace(
    model: nn.Module,
    loader: Iterable[Any],
    criterion: Loss = None,
    relative_error: float = 0.01,
    seed: int = 0,
    *,
    max_products: int = 2000,
    operator: str = "hessian",
    **objective: Any,
) -> TraceOfHessian:
    """The trace of the loss Hessian, or of another operator, until its standard error is ``relative_error`` of it.

    See :func:`~quant_lens_engine.curvature.krylov_trace.krylov_trace`.

    Args:
        model: untouched.
        loader: batches, read once.
        criterion: None for cross-entropy.
        relative_error: of the standard error to the trace.
        seed: of start vector and probes.
        max_products: cap; a trace near zero never reaches a relative error.
        operator: one of :data:`~quant_lens_engine.curvature.operators.OPERATORS`, such as ``gauss-newton``.
        objective: as of :func:`top_eigenvalues`.

    Raises:
        InputError: ``bad_argument``: one of them is out of its range.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))]
        >>> round(trace(model, data, nn.MSELoss()).value, 6)
        5.0
    """
    check_arguments(relative_error=relative_error, max_products=max_products)
    chosen = OPERATORS[operator](Objective(model, loader, criterion, **objective))
    found = krylov_trace(chosen, relative_error=relative_error, max_products=max_products, seed=seed)
    return TraceOfHessian(found.value, found.standard_error, chosen.products)


def spectral_density(
    model: nn.Module,
    loader: Iterable[Any],
    criterion: Loss = None,
    seed: int = 0,
    *,
    runs: int = 3,
    steps: int = 12,
    confidence: float = 0.95,
    operator: str = "hessian",
    **objective: Any,
) -> SpectralDensity:
    """The spectral density of the loss Hessian, or of another operator, with its band over start vectors.

    See :func:`~quant_lens_engine.curvature.density.lanczos_density`: a probability per unit of λ, seen through a
    Gaussian of standard deviation ``width``.

    Args:
        model: untouched.
        loader: batches, read once.
        criterion: None for cross-entropy.
        seed: of the start vectors.
        runs: random start vectors, the first one apart.
        steps: products of each; the first takes three times as many.
        confidence: of the band ``low`` to ``high``, pointwise.
        operator: one of :data:`~quant_lens_engine.curvature.operators.OPERATORS`, such as ``gauss-newton``.
        objective: as of :func:`top_eigenvalues`.

    Raises:
        InputError: ``bad_argument``: one of them is out of its range.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))]
        >>> density = spectral_density(model, data, nn.MSELoss())
        >>> round(float(np.trapezoid(density.y, density.x)), 3)
        1.0
        >>> bool(np.all(density.low <= density.y + 1e-12) and np.all(density.y <= density.high + 1e-12))
        True
    """
    check_arguments(runs=runs, steps=steps, confidence=confidence)
    chosen = OPERATORS[operator](Objective(model, loader, criterion, **objective))
    return lanczos_density(chosen, runs=runs, steps=steps, seed=seed, confidence=confidence)


def power_iteration(
    model: nn.Module,
    loader: Iterable[Any],
    criterion: Loss = None,
    device: str | torch.device = "cpu",
    iters: int = 20,
    *,
    seed: int = 0,
    **objective: Any,
) -> float:
    """λmax, the largest eigenvalue of the loss Hessian over all batches of ``loader``.

    The name is the original library's. Power iteration finds the eigenvalue of largest *magnitude*, which may be
    negative, and needs many more products; this takes at most ``iters`` products of the Lanczos process.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))]
        >>> round(power_iteration(model, data, nn.MSELoss(), "cpu"), 6)
        4.0
    """
    check_arguments(iters=iters)
    operator = HessianOperator(Objective(model, loader, criterion, device=device, **objective))
    found = extreme_spectrum(operator, bottom=0, tolerance=1e-6, max_products=iters, seed=seed, rounding=False)
    return found.top.values[0]
