"""The coin in the well: λmax falls while the basin narrows.

Curvature at the bottom and width of the whole basin are two things. A variant whose λmax is below the float model's
looks flatter by the one and leaves less room by the other; read alone, either number misleads.
"""

from __future__ import annotations

from typing import NamedTuple

from quant_lens_engine.diagnosis.basin_widths import compare_basins
from quant_lens_engine.schema import Variant


class CoinInTheWell(NamedTuple):
    """λmax over the float model's, and the basin's width over the float model's: both below 1 beyond their errors."""

    sharpness_ratio: float
    width_ratio: float


def coin_in_the_well(baseline: Variant, variant: Variant) -> CoinInTheWell | None:
    """The pair of ratios where both fall beyond their uncertainty; None where they do not, or are not known.

    λmax falls where the two intervals are apart. The basin narrows where the mean of the widths' ratios, along the same
    directions, is below 1 at 95 % (Student's); with fewer than three, or where one does not leave the basin, nothing is
    said.

    Example:
        >>> from quant_lens_engine.schema import Curvature, Eigenvalue, Line
        >>> def measured(name, value, widths):
        ...     sharp = Eigenvalue(value=value, lower=0.99 * value, upper=1.01 * value)
        ...     line = Line(landscape="smooth", basin_widths=widths)
        ...     return Variant(name=name, curvature=Curvature(lambda_max=sharp), lines=[line])
        >>> found = coin_in_the_well(measured("FP32", 10.0, [1.0, 1.2, 0.9]), measured("int3", 4.0, [0.5, 0.62, 0.43]))
        >>> round(found.sharpness_ratio, 2), round(found.width_ratio, 2)
        (0.4, 0.5)
    """
    sharpness, width = _sharpness_ratio(baseline, variant), _width_ratio(baseline, variant)
    return None if sharpness is None or width is None else CoinInTheWell(sharpness, width)


def _sharpness_ratio(baseline: Variant, variant: Variant) -> float | None:
    if baseline.curvature is None or variant.curvature is None:
        return None
    before, after = baseline.curvature.lambda_max, variant.curvature.lambda_max
    if before.value is None or after.value is None or before.value <= 0:
        return None
    falls = before.lower is not None and after.upper is not None and after.upper < before.lower
    return after.value / before.value if falls else None


def _width_ratio(baseline: Variant, variant: Variant) -> float | None:
    found = compare_basins(baseline, variant)
    return found.ratio if found is not None and found.change == "narrower" else None
