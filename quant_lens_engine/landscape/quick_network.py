"""The network of a smooth landscape as it is computed away from the origin: the same losses from fewer operations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quant_lens_engine.errors import is_out_of_memory
from quant_lens_engine.landscape.basin import basin_rise
from quant_lens_engine.landscape.channels_last import channels_last_pays
from quant_lens_engine.landscape.folding import Folding, folded
from quant_lens_engine.landscape.surroundings import moved_tensor
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point

TOLERANCE = 1e-5
"""Largest change of the loss at the origin, as a share of it (of 0.1 where it is below 0.01): what rounding explains. A
network that shows more is not used."""

FEWEST_PLACES = 25
"""A landscape of fewer places is not worth it: comparing the two ways at the origin takes two places' time."""


@dataclass(frozen=True)
class QuickNetwork:
    """The same loss as ``origin``'s network, but for rounding, in less time.

    Attributes:
        origin: the network itself, where the landscape has its origin.
        network: the quick one; its parameters are the origin's own, which places are made from.
        folding: the normalisations that are folded; None: none is.
        is_channels_last: whether weights of convolutions are laid out so.
        change: of the loss at the origin, in units of the loss: measured.
    """

    origin: Objective
    network: Objective
    folding: Folding | None
    is_channels_last: bool
    change: float

    def at(self, *steps: tuple[Point, float]) -> Objective:
        """The loss at ``origin + Σ coefficient · direction``, of the network's own directions.

        A place is made from the origin and the directions as they are, folded and laid out on the way: it takes the
        memory of one copy of the parameters that move or are folded or laid out, and of a block in float64. The origin
        is measured by the network itself: there is the evaluated loss, digit for digit.
        """
        if not any(coefficient for _, coefficient in steps):
            return self.origin
        return self.made(*steps)

    def made(self, *steps: tuple[Point, float]) -> Objective:
        """The same of the quick network, at the origin too."""
        active = [(direction, coefficient) for direction, coefficient in steps if coefficient]
        rows = {} if self.folding is None else self.folding.rows
        place = {}
        for name, start in self.network.point.items():
            own = [(direction[name], coefficient) for direction, coefficient in active if name in direction]
            is_laid_out = self.is_channels_last and start.ndim == 4
            if own or name in rows or is_laid_out:
                form = torch.channels_last if is_laid_out else torch.preserve_format
                place[name] = moved_tensor(start, own, rows.get(name), form)
        return self.network.at(place)

    @property
    def sentence(self) -> str:
        """For the record."""
        parts = []
        if self.folding is not None:
            parts.append(f"batch normalisation is folded into {len(self.folding.layers)} layers")
        if self.is_channels_last:
            parts.append("weights of convolutions lie channels last")
        return f"{', '.join(parts)}, which changes the loss at the origin by {self.change:.1e}"


def quick_network(
    network: Objective, origin: Point, directions: Sequence[Mapping[str, Tensor]], places: int
) -> QuickNetwork | None:
    """The network in its quickest form that is exact; None where there is none, or it would not pay.

    Whether it pays is decided by shape, so that every worker decides the same: by the number of places, and by
    :func:`~quant_lens_engine.landscape.channels_last.channels_last_pays`. Whether it is exact is measured at the
    origin.

    Args:
        network: the loss to measure.
        origin: of the landscape.
        directions: that it will be moved along.
        places: how many losses the whole landscape has, whoever measures them.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        >>> network = Objective(model, [(torch.eye(2), torch.ones(2, 1))], task="regression")
        >>> direction = {"0.weight": torch.ones(3, 2)}
        >>> quick = quick_network(network, network.point, [direction], places=25)
        >>> quick.sentence.partition(",")[0], quick.at((direction, 0.0)) is quick.origin
        ('batch normalisation is folded into 1 layers', True)
    """
    if places < FEWEST_PLACES or network.computation is not None or network.call.custom_forward is not None:
        return None
    folding = folded(network, origin, directions)
    last = channels_last_pays(network)
    if folding is None and not last:
        return None
    plain = network.at(origin)
    expected = plain.loss()
    own = plain if folding is None else folding.network
    choices = [QuickNetwork(plain, own, folding, True, 0.0)] if last else []
    choices += [QuickNetwork(plain, own, folding, False, 0.0)] if folding is not None else []
    for choice in choices:
        change = _change(choice, expected)
        if change <= TOLERANCE * basin_rise(abs(expected)):
            return replace(choice, change=change)
    return None


def _change(quick: QuickNetwork, expected: float) -> float:
    """Of the loss; infinite where the network cannot be computed so: ``view`` of a transposed layout, a forward that
    reads what was folded. The plain network has taken the data, so nobody is at fault."""
    try:
        found = quick.made().loss()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return math.inf
    change = abs(found - expected)
    return change if math.isfinite(change) else math.inf
