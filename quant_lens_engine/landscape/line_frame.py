"""The directions of a line and its grid: made once, and shared by every variant of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor

from quant_lens_engine.landscape.basin import basin_rise
from quant_lens_engine.landscape.directions import Direction, make_direction
from quant_lens_engine.landscape.distance import Reach, Rises, automatic_reach
from quant_lens_engine.landscape.readings import Reader, Reading
from quant_lens_engine.landscape.surroundings import Surroundings, moved
from quant_lens_engine.objective.function import Point
from quant_lens_engine.progress import SILENT
from quant_lens_engine.schema import DirectionName, LineOptions
from quant_lens_engine.schema.direction_name import DRAWN, OWN

_PAST_THE_END = 1.5
"""Of the way to a model: as far beyond it as shows whether the loss rises there."""


@dataclass
class LineFrame:
    """One kind of line.

    Attributes:
        kind: its name.
        make: its directions: one, or several random ones; the same each time.
        alphas: the grid.
        reach: the largest of them, and how it was chosen.
        known: what the float network is at some places, by direction and α.
    """

    kind: DirectionName
    make: Callable[[], Sequence[Direction]]
    alphas: list[float]
    reach: Reach
    known: dict[tuple[int, float], Reading] = field(default_factory=dict)
    _made: list[Direction] = field(default_factory=list, repr=False)
    _standing: dict[int, dict[str, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def directions(self) -> Sequence[Direction]:
        """They may hold the model that they lead to, or a vector of all parameters."""
        if not self._made:
            self._made.extend(self.make())
        return self._made

    def steps(self, number: int) -> dict[str, Tensor]:
        """Direction ``number``, in float64. One direction after the other is walked, and one stands in memory."""
        if number not in self._standing:
            self._standing.clear()
            self._standing[number] = dict(self.directions[number].steps)
        return self._standing[number]

    def let_go(self) -> None:
        """Of the directions and what they hold; the next one who walks along them has them made again."""
        self._standing.clear()
        self._made.clear()

    @property
    def is_path(self) -> bool:
        """Whether it starts at the float parameters, whatever the variant."""
        return self.kind.kind == "path"

    def place(self, origin: Point, number: int, alpha: float) -> Point:
        """The parameters at α along direction ``number``; a path ends at its model, digit for digit."""
        direction = self.directions[number]
        if self.is_path and alpha == 1 and direction.end is not None:
            return direction.end
        return moved(origin, (self.steps(number), alpha))


class LineFrames:
    """The frames of a run, each made when it is first asked for.

    Args:
        around: the float point; its ``own`` does not matter.
        options: kinds and grid.
        reader: reads the places that the range is chosen from; None: a silent one.
    """

    def __init__(self, around: Surroundings, options: LineOptions, reader: Reader | None = None) -> None:
        self.around, self.options = around, options
        self._reader = reader or Reader(SILENT, "", 1)
        self._made: dict[str, LineFrame] = {}

    @cached_property
    def base_loss(self) -> float:
        """The float model's."""
        return self.around.objective.loss()

    @property
    def rise(self) -> float:
        """Of the loss that ends a basin, the same for every variant."""
        return basin_rise(self.base_loss)

    def frame(self, kind: str, around: Surroundings) -> LineFrame:
        """The frame of a kind of direction, for the variant of ``around``."""
        name = DirectionName.parse(kind)
        if name.kind in OWN:
            return self._make(name, around)
        if kind not in self._made:
            self._made[kind] = self._make(name, replace(around, own=None))
        return self._made[kind]

    def let_go(self) -> None:
        """Nothing of a direction stands in memory until the next line is walked; grids and known losses stay."""
        for frame in self._made.values():
            frame.let_go()

    def _make(self, name: DirectionName, around: Surroundings) -> LineFrame:
        frame = LineFrame(
            name, lambda: [make_direction(one, around) for one in self._names(name)], [], Reach(1.0, "")
        )  # fmt: skip
        points, given = self.options.points, self.options.distance
        if any(direction.end is not None for direction in frame.directions):
            frame.alphas, frame.reach = _through_the_end(points, frame.is_path)
            return frame
        frame.reach = self._reach(frame) if given is None else Reach(given, "as asked for")
        frame.alphas = symmetric_grid(points, frame.reach.distance)
        return frame

    def _names(self, name: DirectionName) -> list[str]:
        if name.kind not in DRAWN or name.argument:
            return [str(name)]
        return [f"{name.kind}:{number}" for number in range(1, self.options.directions + 1)]

    def _reach(self, frame: LineFrame) -> Reach:
        def rises_at(distance: float) -> Rises:
            places = [(number, sign * distance) for number in range(len(frame.directions)) for sign in (-1.0, 1.0)]
            return rises([self._read(frame, *place) for place in places], self.base_loss)

        return automatic_reach(rises_at, self.rise)

    def _read(self, frame: LineFrame, number: int, alpha: float) -> Reading:
        """Of the float network."""
        if (number, alpha) not in frame.known:
            base = self.around.objective
            place = frame.place(base.point, number, alpha)
            frame.known[number, alpha] = self._reader.read(base.at(place), "range")
        return frame.known[number, alpha]


def rises(ends: Sequence[Reading], base_loss: float) -> Rises:
    """How far the loss has risen at some places above the float model's."""
    found = [reading.loss - base_loss if reading.is_finite else float("inf") for reading in ends]
    return Rises(min(found), max(found))


def symmetric_grid(points: int, distance: float) -> list[float]:
    """An odd number of points from −distance to +distance, with exactly 0 in the middle.

    Example:
        >>> symmetric_grid(5, 1.0)
        [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    half = (points - 1) // 2
    return [distance * step / half for step in range(-half, half + 1)]


def _through_the_end(points: int, is_path: bool) -> tuple[list[float], Reach]:
    """A symmetric grid with 0 and exactly 1 in it: half the way past the model, as nearly as the points allow."""
    half = (points - 1) // 2
    steps = max(1, round(half / _PAST_THE_END))
    alphas = [step / steps for step in range(-half, half + 1)]
    says = "α = 0 is FP32, α = 1 the variant" if is_path else "one unit is the whole way from FP32"
    return alphas, Reach(alphas[-1], says)
