"""How each number of a variant is read from a result, with its error and a word about it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from quant_lens_engine.figures.metric import Measurement, Reader
from quant_lens_engine.schema import Landscape, RunResult, Sharpness, Variant


def evaluation(field: str, error: str = "") -> Reader:
    """A field of the evaluation, and the one that is its error."""

    def read(_: RunResult, variant: Variant) -> Measurement:
        evaluation = variant.evaluation
        if evaluation is None:
            return Measurement(None)
        return Measurement(getattr(evaluation, field), getattr(evaluation, error) if error else None)

    return read


def eigenvalue(which: Literal["lambda_max", "lambda_min"]) -> Reader:
    """λmax or λmin, and how far it can be from that."""

    def read(_: RunResult, variant: Variant) -> Measurement:
        if variant.curvature is None:
            return Measurement(None)
        found = getattr(variant.curvature, which)
        if found.value is None:
            return Measurement(None, note=variant.curvature.reason or "")
        return Measurement(found.value, found.reach, "" if variant.curvature.converged else "not converged")

    return read


def batch_spread(_: RunResult, variant: Variant) -> Measurement:
    """The spread of λmax over shards of the sample."""
    return Measurement(variant.curvature.lambda_max.batch_std if variant.curvature else None)


def trace(_: RunResult, variant: Variant) -> Measurement:
    """Tr H with its standard error."""
    if variant.curvature is None:
        return Measurement(None)
    trace = variant.curvature.trace
    return Measurement(trace.value, trace.standard_error, variant.curvature.reason or "" if trace.value is None else "")


def counted(which: Literal["negative", "positive", "effective_rank"]) -> Reader:
    """An estimate of a number of eigenvalues; without a standard error, half its interval is the error."""

    def read(_: RunResult, variant: Variant) -> Measurement:
        curvature = variant.curvature
        found = getattr(curvature, which) if curvature else None
        if found is None or found.value is None:
            return Measurement(None, note=(curvature.reason or "no density was asked for") if curvature else "")
        error = found.standard_error
        if error is None and found.lower is not None and found.upper is not None:
            error = (found.upper - found.lower) / 2
        return Measurement(found.value, error)

    return read


def relative(which: Literal["relative_lambda_max", "relative_trace"]) -> Reader:
    """A form of sharpness in norms of filters."""

    def read(_: RunResult, variant: Variant) -> Measurement:
        sharpness, reason = _sharpness_of(variant)
        if sharpness is None:
            return Measurement(None, note=reason)
        if which == "relative_trace":
            trace = sharpness.relative_trace
            return Measurement(trace.value, trace.standard_error, reason if trace.value is None else "")
        found = sharpness.relative_lambda_max
        return Measurement(found.value, found.reach, reason if found.value is None else "")

    return read


def rise(which: Literal["adaptive", "plain"]) -> Reader:
    """The largest rise of the loss found within a radius."""

    def read(_: RunResult, variant: Variant) -> Measurement:
        sharpness, reason = _sharpness_of(variant)
        found = getattr(sharpness, which).rise if sharpness else None
        unknown = reason or ("the loss is not finite within the radius" if sharpness else "")
        return Measurement(found, note=unknown if found is None else "")

    return read


def _sharpness_of(variant: Variant) -> tuple[Sharpness | None, str]:
    """The forms in norms of filters, and why one of them may be missing."""
    curvature = variant.curvature
    if curvature is None:
        return None, ""
    missing = curvature.reason or ("" if curvature.sharpness else "not asked for")
    return curvature.sharpness, missing


def sharpness_ratio(result: RunResult, variant: Variant) -> Measurement:
    """λmax over the float model's, with the error of both."""
    comparison = result.comparison(variant.name)
    if comparison is None:
        return Measurement(None)
    ratio = comparison.sharpness_ratio
    if ratio is None:
        measured = variant.curvature is not None
        return Measurement(None, note="λmax(FP32) is within its own uncertainty of zero" if measured else "")
    parts = [item.curvature.lambda_max for item in (variant, result.variant(comparison.baseline)) if item.curvature]
    relative = [part.reach / part.value for part in parts if part.reach is not None and part.value]
    return Measurement(ratio, abs(ratio) * math.hypot(*relative) if len(relative) == 2 else None)


LineField = Literal["basin_width", "basin_asymmetry", "roughness", "epsilon_sharpness"]


def along_line(landscape: Landscape, field: LineField) -> Reader:
    """A number of the line along the random directions; of the basin's width with its spread over them."""

    def read(_: RunResult, variant: Variant) -> Measurement:
        line = next(
            (item for item in variant.lines if item.landscape == landscape and item.direction == "random"), None
        )
        if line is None:
            return Measurement(None)
        value = getattr(line, field)
        if value is None:
            return Measurement(None, note=line.reason or _WITHOUT[field])
        return Measurement(value, _spread(line.basin_widths) if field == "basin_width" else None)

    return read


_WITHOUT: dict[LineField, str] = {
    "basin_width": "the line does not leave the basin",
    "basin_asymmetry": "the line does not leave the basin on both sides",
    "roughness": "without both landscapes there is no difference of them",
    "epsilon_sharpness": "no finite loss within ε",
}


def _spread(widths: Sequence[float | None]) -> float | None:
    known = [width for width in widths if width is not None]
    return statistics.stdev(known) if len(known) > 1 else None


def barrier(_: RunResult, variant: Variant) -> Measurement:
    """The barrier on the path from the float model."""
    if variant.path is None:
        return Measurement(None)
    found = variant.path.barrier
    return Measurement(found, note="" if found is not None else variant.path.reason or "a loss on the path is missing")


def variant_field(field: str) -> Reader:
    """A field of the variant itself."""

    def read(_: RunResult, variant: Variant) -> Measurement:
        value = getattr(variant, field)
        return Measurement(None if value is None else float(value))

    return read
