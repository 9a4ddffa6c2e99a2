"""From what was computed to the records that a run keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from quant_lens_engine.curvature.counts import count_below
from quant_lens_engine.curvature.density import Quadrature, density_of
from quant_lens_engine.curvature.krylov import product_error
from quant_lens_engine.curvature.lanczos import Spectrum
from quant_lens_engine.curvature.sample_spread import SpreadOverShards
from quant_lens_engine.curvature.spectrum_end import EndOfSpectrum
from quant_lens_engine.curvature.traces import SampleMean
from quant_lens_engine.schema.analyses import CurvatureOptions
from quant_lens_engine.schema.curvature import Curvature, Density, Eigenvalue, ProbeEstimate, TraceEstimate

GROSS_ASYMMETRY = 0.02
"""Rounding, even in bfloat16, leaves products more symmetric than this, relative to the largest eigenvalue."""

THRESHOLD = 1e-3
"""Eigenvalues below this share of the largest magnitude count as zero."""


def eigenvalue_record(end: EndOfSpectrum, index: int, rounding: float, confidence: float) -> Eigenvalue:
    """A Ritz value bounds the eigenvalue on its inner side, to the rounding of the products; a bound on the other."""
    value, beyond = end.values[index], end.beyond(index) if index else end.extreme.beyond
    near, far = sorted((value, beyond))
    known = math.isfinite(far) and math.isfinite(near)
    return Eigenvalue(
        value=value,
        residual=end.residuals[index],
        lower=near - rounding if known else None,
        upper=far + rounding if known else None,
        confidence=confidence if known else None,
    )


def largest_record(spectrum: Spectrum, precision: float, confidence: float) -> Eigenvalue:
    """The largest eigenvalue of a spectrum."""
    return eigenvalue_record(spectrum.top, 0, rounding_of(spectrum, precision), confidence)


def eigenvalues(spectrum: Spectrum, spread: SpreadOverShards, options: CurvatureOptions, precision: float) -> Curvature:
    """A record with both ends of the spectrum.

    Args:
        spectrum: what was found.
        spread: of the first vector of each end.
        options: what was asked for.
        precision: of the products' dtype.
    """
    rounding = rounding_of(spectrum, precision)
    largest, smallest = (
        [eigenvalue_record(end, index, rounding, options.confidence) for index in range(len(end.values))]
        for end in (spectrum.top, spectrum.bottom)
    )
    for extreme, residual, deviation in zip(
        (largest[0], smallest[0]), spread.residuals, spread.deviations, strict=True
    ):
        extreme.residual, extreme.batch_std = residual, deviation
    return Curvature(
        lambda_max=largest[0],
        lambda_min=smallest[0],
        eigenvalues=spectrum.top.values,
        largest=largest,
        smallest=smallest,
        convergence=spectrum.history,
        converged=spectrum.ends_settled,
        complete=spectrum.converged,
        reason=None if spectrum.ends_settled else _why_not_converged(spectrum, options),
        cut_off=not spectrum.ends_settled and _is_cut_off(spectrum, options),
    )


def add_density(
    curvature: Curvature, runs: Sequence[Quadrature], dimension: int, products: int, confidence: float
) -> None:
    """The density, and how many eigenvalues are clearly negative and positive."""
    if not runs:
        return
    found = density_of(runs, dimension, products, confidence)
    curvature.density = Density(
        x=found.x.tolist(),
        y=found.y.tolist(),
        low=found.low.tolist(),
        high=found.high.tolist(),
        width=found.width,
        runs=len(runs),
        confidence=confidence if len(runs) > 1 else None,
    )
    curvature.threshold = THRESHOLD * max(float(np.abs(run.nodes).max()) for run in runs)
    if not curvature.threshold:
        none = ProbeEstimate(value=0.0, lower=0.0, upper=0.0, confidence=confidence)
        curvature.negative, curvature.positive = none, none.model_copy()
        return
    below = count_below(runs, -curvature.threshold, dimension, confidence)
    not_above = count_below(runs, curvature.threshold, dimension, confidence)
    curvature.negative = ProbeEstimate(value=below.value, lower=below.lower, upper=below.upper, confidence=confidence)
    curvature.positive = ProbeEstimate(
        value=dimension - not_above.value,
        lower=dimension - not_above.upper,
        upper=dimension - not_above.lower,
        confidence=confidence,
    )


def estimate_record(
    mean: SampleMean, confidence: float, lowest: float, highest: float, *, known: bool = True
) -> ProbeEstimate:
    """A mean over runs, within what is possible; ``known``: its error is that over the runs, and so there is one."""
    low, high = mean.interval(confidence)
    several = known and math.isfinite(mean.standard_error)
    return ProbeEstimate(
        value=min(max(mean.value, lowest), highest),
        standard_error=mean.standard_error if several else None,
        lower=max(low, lowest) if several else None,
        upper=min(high, highest) if several else None,
        confidence=confidence if several else None,
    )


def trace_record(mean: SampleMean, exact: bool, confidence: float, error: float = 0.0) -> TraceEstimate:
    """A trace with its interval.

    Args:
        mean: over probes.
        exact: nothing was sampled.
        confidence: of the interval.
        error: how far the products may be off in sum, as differences of gradients are. The interval is wider by it,
            and a standard error over probes that is less than it says nothing.
    """
    low, high = (mean.value, mean.value) if exact else mean.interval(confidence)
    spread = 0.0 if exact else mean.standard_error
    finite = math.isfinite(spread)
    return TraceEstimate(
        value=mean.value,
        standard_error=spread if finite and spread >= error else None,
        lower=low - error if finite else None,
        upper=high + error if finite else None,
        confidence=(1.0 if exact and not error else confidence) if finite else None,
        probes=0 if exact else len(mean.samples),
    )


def rounding_of(spectrum: Spectrum, precision: float) -> float:
    """What shows of the products' rounding, and the precision of their dtype."""
    return spectrum.rounding + precision * max(abs(spectrum.highest.value), abs(spectrum.lowest.value))


def _is_cut_off(spectrum: Spectrum, options: CurvatureOptions) -> bool:
    return spectrum.products >= options.max_products


def _why_not_converged(spectrum: Spectrum, options: CurvatureOptions) -> str:
    if _is_cut_off(spectrum, options):
        return f"not within the tolerance of {options.tolerance:g} after {spectrum.products} Hessian-vector products"
    if spectrum.first.full and not spectrum.first.exhausted:
        return f"the Lanczos basis reached its memory limit after {spectrum.first.size} products"
    if product_error(spectrum.first.operator):
        return (
            f"the products are differences of gradients, right to {spectrum.rounding:.1e} only, "
            "which is more than the tolerance"
        )
    rounding = f"the products are right to {spectrum.rounding:.1e} only"
    largest = max(abs(spectrum.highest.value), abs(spectrum.lowest.value))
    if spectrum.asymmetry > GROSS_ASYMMETRY * largest:
        return f"{rounding}: a part of the model hides its derivative, so these numbers are not those of a Hessian"
    return f"{rounding}, which is more than the tolerance: their rounding; float64 would reach it"
