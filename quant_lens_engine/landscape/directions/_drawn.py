"""Gaussian numbers of the float parameters' shapes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quant_lens_engine.landscape.steps import Steps
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.objective.randomness import generator


def gaussian(around: Surroundings, number: int, scaled: Callable[[str, Tensor], Tensor] | None = None) -> Steps:
    """Direction ``number`` of the seed, from 1: standard normal, float64, by parameter name.

    Drawn on the CPU, so that it is the same on every device, and independent of how many others are drawn.

    Args:
        around: shapes and seed.
        number: of the direction.
        scaled: what becomes of the numbers drawn for a parameter; None: nothing.
    """
    draw = _Draw(around, number)
    return Steps(around.base, draw.tensor if scaled is None else lambda name: scaled(name, draw.tensor(name)))


class _Draw:
    """One stream of numbers, a tensor after the other. It holds the last one only, on the CPU: whoever asks for an
    earlier one has the stream drawn from its beginning."""

    def __init__(self, around: Surroundings, number: int) -> None:
        self._around, self._number = around, number
        self._order = {name: place for place, name in enumerate(around.base)}
        self._begin()

    def _begin(self) -> None:
        self._source = generator(self._around.seed, "direction", self._number - 1)
        self._rest = iter(self._around.base.items())
        self._place = -1
        self._last = torch.empty(0)

    def tensor(self, name: str) -> Tensor:
        """The numbers of a parameter, the caller's to change."""
        if self._order[name] < self._place:
            self._begin()
        while self._place < self._order[name]:
            self._place += 1
            _, tensor = next(self._rest)
            self._last = torch.randn(tensor.shape, generator=self._source, dtype=torch.float64)
        return self._last.to(self._around.objective.point[name].device, copy=True)
