"""How wide a variant's basin is beside the float model's, and whether the two differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from quant_lens_engine.schema.base import MaybeFloat, Record
from quant_lens_engine.schema.numbers import number

Change = Literal["narrower", "wider", "alike"]


class BasinRatio(Record):
    """Width over the float model's, along the same directions.

    Attributes:
        ratio: mean over the directions of width / width(FP32), each pair along one direction.
        low: lower end of the interval of that mean, at ``confidence``; null where there is no ``change``.
        high: upper end.
        directions: how many pairs there are, both of whose widths are known.
        open_directions: how many more there are, along which one of the two does not leave the basin within the grid:
            it is wide, nobody knows how wide.
        confidence: of the interval.
        change: ``narrower`` or ``wider`` where the interval leaves 1 out, ``alike`` where it holds it; null: with
            fewer than three directions, or where one of a pair is open, nothing tells.
    """

    ratio: MaybeFloat = None
    low: MaybeFloat = None
    high: MaybeFloat = None
    directions: int = 0
    open_directions: int = 0
    confidence: float = 0.95
    change: Change | None = None


def basin_words(ratios: Mapping[str, BasinRatio]) -> str:
    """Whether widths of variants' basins differ from the float model's, in a sentence; empty where nothing is known.

    Example:
        >>> int3 = BasinRatio(ratio=0.5, low=0.4, high=0.6, directions=3, change="narrower")
        >>> int8 = BasinRatio(ratio=1.0, low=0.98, high=1.02, directions=3, change="alike")
        >>> basin_words({"int3": int3})
        'Against FP32 on 3 directions: int3 narrower, 0.500 × (0.400 to 0.600 at 95 %).'
        >>> basin_words({"int8": int8})
        'Against FP32 on 3 directions: int8 no different within the band.'
    """
    known = {name: found for name, found in ratios.items() if found.change is not None}
    if not known:
        return _untold(ratios)
    parts = [
        f"{name} {found.change}, {number(found.ratio)} × ({number(found.low)} to {number(found.high)} "
        f"at {found.confidence * 100:.0f} %)"
        for name, found in known.items()
        if found.change != "alike"
    ]
    alike = [name for name, found in known.items() if found.change == "alike"]
    if alike:
        parts.append(f"{', '.join(alike)} no different within the band")
    directions = min(found.directions for found in known.values())
    said = f"Against FP32 on {directions} directions: {'; '.join(parts)}."
    return f"{said} {_untold(ratios)}".strip()


def _untold(ratios: Mapping[str, BasinRatio]) -> str:
    """Why nothing is said of some variants."""
    beyond = [name for name, found in ratios.items() if found.open_directions]
    if beyond:
        return (
            f"Of {', '.join(beyond)}, or of FP32 beside it, a line does not leave the basin within the grid: whether "
            "widths differ is not told; a larger line.distance shows where it ends."
        )
    few = any(found.change is None for found in ratios.values())
    return "Whether widths differ takes three directions or more: fewer have no band." if few else ""
