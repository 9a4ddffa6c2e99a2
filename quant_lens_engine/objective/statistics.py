"""Means over rows with their sampling error."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """A mean and its standard error; the error is NaN where it is unknown."""

    value: float
    standard_error: float


def mean_with_error(numerators: Tensor, weights: Tensor) -> Estimate:
    """Σ aᵢ / Σ wᵢ over rows, with the standard error of that ratio.

    Linearised (Cochran, Sampling Techniques, 1977, §6.4): the residuals aᵢ − m wᵢ have mean zero, and
    se² = n/(n − 1) Σ (aᵢ − m wᵢ)² / (Σ wᵢ)². With equal weights this is the usual standard error of a mean.

    Args:
        numerators: ``(n,)``, a loss or a count of right answers a row.
        weights: ``(n,)``, what each row counts.

    Example:
        >>> mean_with_error(torch.tensor([1.0, 3.0]), torch.ones(2))
        Estimate(value=2.0, standard_error=1.0)
    """
    numerators, weights = numerators.double(), weights.double()
    total = float(weights.sum())
    rows = numerators.shape[0]
    value = float(numerators.sum()) / total if total else float("nan")
    if rows < 2 or not total:
        return Estimate(value, float("nan"))
    residuals = numerators - value * weights
    variance = rows / (rows - 1) * float(torch.dot(residuals, residuals))
    return Estimate(value, variance**0.5 / total)
