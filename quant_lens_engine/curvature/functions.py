"""Curvature in one call: a model, a loader and a criterion in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quant_lens_engine.curvature.density import SpectralDensity, lanczos_density
from quant_lens_engine.curvature.interval import Array
from quant_lens_engine.curvature.krylov_trace import krylov_trace
from quant_lens_engine.curvature.lanczos import extreme_spectrum
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.operators.hessian import HessianOperator
from quant_lens_engine.objective import Objective

Loss = nn.Module | Callable[..., Tensor] | None


@dataclass(frozen=True)
class TopEigenvalues:
    """The largest eigenvalues of the loss Hessian, descending, with multiplicity.

    Attributes:
        values: ``(k,)``, in loss units.
        residuals: ‖Hv − λv‖ of each, ``(k,)``.
        hvps: whole-sample Hessian-vector products.
        converged: within the tolerance, and nothing larger was missed at 95% confidence.
    """

    values: Array
    residuals: Array
    hvps: int
    converged: bool


@dataclass(frozen=True)
class TraceOfHessian:
    """Tr ∇²L in loss units, its standard error over probes, and the products it took."""

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
    max_products: int = 1000,
    operator: str = "hessian",
    **objective: Any,
) -> TopEigenvalues:
    """The ``k`` largest (algebraic) eigenvalues of the loss Hessian, or of another operator, over all of ``loader``.

    Args:
        model: untouched; see :class:`~quant_lens_engine.objective.Objective`.
        loader: batches, read once.
        criterion: None for cross-entropy.
        k: how many; at most the number of free parameters.
        tol: relative accuracy.
        seed: of the start vectors.
        max_products: cap on products.
        operator: one of :data:`~quant_lens_engine.curvature.operators.OPERATORS`, such as ``gauss-newton``.
        objective: ``task``, ``forward``, ``device``, ``dtype``, ``micro_batch``.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))]
        >>> top_eigenvalues(model, data, nn.MSELoss(), k=2).values.round(6).tolist()
        [4.0, 1.0]
    """
    chosen = OPERATORS[operator](Objective(model, loader, criterion, **objective))
    found = extreme_spectrum(chosen, top=k, bottom=0, tolerance=tol, max_products=max_products, seed=seed)
    return TopEigenvalues(np.array(found.top.values), np.array(found.top.residuals), found.products, found.converged)


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
        objective: ``task``, ``forward``, ``device``, ``dtype``, ``micro_batch``.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))]
        >>> round(trace(model, data, nn.MSELoss()).value, 6)
        5.0
    """
    chosen = OPERATORS[operator](Objective(model, loader, criterion, **objective))
    found = krylov_trace(chosen, relative_error=relative_error, max_products=max_products, seed=seed)
    return TraceOfHessian(found.value, found.standard_error, chosen.products)


def spectral_density(
    model: nn.Module,
    loader: Iterable[Any],
    criterion: Loss = None,
    seed: int = 0,
    *,
    runs: int = 4,
    steps: int = 12,
    operator: str = "hessian",
    **objective: Any,
) -> SpectralDensity:
    """The spectral density of the loss Hessian; see :func:`~quant_lens_engine.curvature.density.lanczos_density`.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))]
        >>> density = spectral_density(model, data, nn.MSELoss())
        >>> round(float(np.trapezoid(density.y, density.x)), 3)
        1.0
    """
    chosen = OPERATORS[operator](Objective(model, loader, criterion, **objective))
    return lanczos_density(chosen, runs=runs, steps=steps, seed=seed)


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
    operator = HessianOperator(Objective(model, loader, criterion, device=device, **objective))
    found = extreme_spectrum(operator, bottom=0, tolerance=1e-6, max_products=max(1, iters), seed=seed)
    return found.top.values[0]
