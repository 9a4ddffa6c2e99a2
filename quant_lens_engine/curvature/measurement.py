"""λmax, λmin and the trace of one variant, as the record that a run keeps."""

from __future__ import annotations

import time
from typing import Literal

import torch

from quant_lens_engine.curvature.hutchinson import Trace, hutchinson_trace
from quant_lens_engine.curvature.krylov import Bounds
from quant_lens_engine.curvature.lanczos import Spectrum, extreme_spectrum
from quant_lens_engine.curvature.operators.hessian import HessianOperator
from quant_lens_engine.curvature.plan import HvpPlan
from quant_lens_engine.curvature.sample_spread import SpreadOverShards, spread_over_shards
from quant_lens_engine.errors import NumericalError
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.schema.analyses import CurvatureOptions
from quant_lens_engine.schema.curvature import Curvature, Eigenvalue, TraceEstimate

GROSS_ASYMMETRY = 0.02
"""Rounding, even in bfloat16, leaves products more symmetric than this, relative to the largest eigenvalue."""


def measure_curvature(
    objective: Objective,
    options: CurvatureOptions | None = None,
    *,
    seed: int = 0,
    hvp_plan: HvpPlan | None = None,
    weights: Literal["float", "dequantized"] = "dequantized",
    progress: Progress = SILENT,
    stage: str = "",
) -> Curvature:
    """The ends of the spectrum of ∇²L and its trace, over the whole sample.

    A variant's Hessian is that of the smooth landscape at its dequantized weights: ``objective.at(variant.point)``.

    Args:
        objective: at the point of interest.
        options: accuracy and effort.
        seed: of start vectors, probes and shards; the same for every variant of a run.
        hvp_plan: see :class:`HessianOperator`.
        weights: what the point is, for the record.
        progress: told after each product.
        stage: the stage's key.

    Returns:
        the record; where the model cannot be differentiated twice, or a product is not finite, its numbers are null
        and ``reason`` says why.

    Example:
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))]
        >>> objective = Objective(torch.nn.Linear(2, 1, bias=False), data, task="regression")
        >>> curvature = measure_curvature(objective)
        >>> [round(number, 6) for number in (curvature.lambda_max.value, curvature.lambda_min.value)]
        [4.0, 1.0]
        >>> round(curvature.trace.value, 6)
        5.0
    """
    started = time.perf_counter()
    options = options or CurvatureOptions()
    operator: HessianOperator | None = None
    try:
        operator = HessianOperator(objective, hvp_plan, check_cancelled=progress.check_cancelled)
        curvature = _measured(objective, operator, options, seed, progress, stage)
    except NumericalError as error:
        curvature = Curvature(reason=error.message, hvps=operator.products if operator else 0)
    curvature.dimension = objective.dimension
    curvature.attention = operator.attention if operator else None
    curvature.weights = weights
    curvature.elapsed_s = time.perf_counter() - started
    return curvature


def _measured(
    objective: Objective,
    operator: HessianOperator,
    options: CurvatureOptions,
    seed: int,
    progress: Progress,
    stage: str,
) -> Curvature:
    probes = min(options.trace_probes, operator.dimension)
    expected = min(options.max_products, operator.dimension) + probes
    spectrum = extreme_spectrum(
        operator,
        top=options.top,
        tolerance=options.tolerance,
        max_products=options.max_products,
        confidence=options.confidence,
        seed=seed,
        on_step=lambda done: progress.report(stage, done, expected, "eigenvalues"),
    )
    done = spectrum.products
    trace = hutchinson_trace(
        operator,
        probes=options.trace_probes,
        seed=seed,
        known=spectrum.krylov,
        on_probe=lambda index: progress.report(stage, done + index, done + probes, "trace"),
    )
    operator.release()
    vectors = torch.stack([spectrum.vectors[0], spectrum.lowest_vector])
    spread = spread_over_shards(
        objective, vectors, seed=seed, plan=operator.plan, check_cancelled=progress.check_cancelled
    )
    precision = torch.finfo(objective.point[objective.free[0]].dtype).eps
    return _record(spectrum, trace, spread, options, operator.products + len(vectors), precision)


def _record(
    spectrum: Spectrum,
    trace: Trace,
    spread: SpreadOverShards,
    options: CurvatureOptions,
    products: int,
    precision: float,
) -> Curvature:
    ends = [
        _eigenvalue(bounds, residual, deviation, spectrum.asymmetry + precision * abs(bounds.value), options.confidence)
        for bounds, residual, deviation in zip(
            (spectrum.highest, spectrum.lowest), spread.residuals, spread.deviations, strict=True
        )
    ]
    return Curvature(
        lambda_max=ends[0],
        lambda_min=ends[1],
        eigenvalues=spectrum.values,
        trace=TraceEstimate(value=trace.value, standard_error=trace.standard_error, probes=trace.probes),
        hvps=products,
        converged=spectrum.converged,
        reason=None if spectrum.converged else _why_not_converged(spectrum, options),
    )


def _eigenvalue(
    bounds: Bounds, residual: float, deviation: float | None, rounding: float, confidence: float
) -> Eigenvalue:
    """A Ritz value bounds the eigenvalue on its inner side, to the rounding of the products; the polynomial beyond.

    Rounding shows as asymmetry, except for what is common to all products: about the precision of their dtype.
    """
    near, far = sorted((bounds.value, bounds.beyond))
    return Eigenvalue(
        value=bounds.value,
        residual=residual,
        lower=near - rounding,
        upper=far + rounding,
        confidence=confidence,
        batch_std=deviation,
    )


def _why_not_converged(spectrum: Spectrum, options: CurvatureOptions) -> str:
    if spectrum.products >= options.max_products:
        return (
            f"not within the tolerance of {options.tolerance:g} after {spectrum.products} Hessian-vector products; "
            "the interval says how far λ can be"
        )
    if spectrum.krylov.full and not spectrum.krylov.exhausted:
        return f"the Lanczos basis reached its memory limit after {spectrum.krylov.steps} products"
    rounding = f"the products are symmetric to {spectrum.asymmetry:.1e} only"
    largest = max(abs(spectrum.highest.value), abs(spectrum.lowest.value))
    if spectrum.asymmetry > GROSS_ASYMMETRY * largest:
        return f"{rounding}: a part of the model hides its derivative, so these numbers are not those of a Hessian"
    return f"{rounding}, which is more than the tolerance: their rounding; float64 would reach it"
