"""Mean, spread and kurtosis of a stream of numbers, as in Pébay 2008 (SAND2008-6212)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Moments:
    """Count, mean and central sums Σ(x − mean)ᵏ of a stream of numbers.

    Example:
        >>> found = Moments()
        >>> found.add(torch.tensor([1.0, 3.0]))
        >>> found.add(torch.tensor([5.0]))
        >>> found.mean, round(found.std, 6), found.kurtosis
        (3.0, 1.632993, 1.5)
    """

    count: int = 0
    mean: float = 0.0
    second: float = 0.0
    third: float = 0.0
    fourth: float = 0.0

    def add(self, values: Tensor) -> None:
        """Some numbers more."""
        if not values.numel():
            return
        wide = values.double()
        mean = wide.mean()
        apart = wide - mean
        squares = apart * apart
        sums = torch.stack([mean, squares.sum(), (squares * apart).sum(), (squares * squares).sum()])
        self._merge(values.numel(), *sums.tolist())

    @property
    def std(self) -> float:
        """Standard deviation, divided by n."""
        return math.sqrt(self.second / self.count) if self.count else math.nan

    @property
    def kurtosis(self) -> float | None:
        """Fourth central moment over the variance's square; None where nothing varies."""
        return self.count * self.fourth / self.second**2 if self.second > 0 else None

    def _merge(self, n: int, mean: float, second: float, third: float, fourth: float) -> None:
        a, b, total = self.count, n, self.count + n
        shift = mean - self.mean
        self.fourth += (
            fourth
            + shift**4 * a * b * (a * a - a * b + b * b) / total**3
            + 6 * shift**2 * (a * a * second + b * b * self.second) / total**2
            + 4 * shift * (a * third - b * self.third) / total
        )
        self.third += third + shift**3 * a * b * (a - b) / total**2 + 3 * shift * (a * second - b * self.second) / total
        self.second += second + shift**2 * a * b / total
        self.mean += shift * b / total
        self.count = total
