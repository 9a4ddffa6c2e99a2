"""A plane with its colours and what is shown over them: what every drawing of it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quant_lens_engine.figures.loss_colours import ColourRange, LossColours, LossScale, loss_colours
from quant_lens_engine.figures.plane_grid import PlaneGrid, plane_grid, run_range
from quant_lens_engine.schema import FLOAT_VARIANT, Landscape, PlanePoint, RunResult

SHOWN_ON_PLANE = ("points", "path", "isolines")
"""What a plane shows over its colours, each by choice."""


@dataclass(frozen=True)
class PlaneDrawing:
    """A plane with its colours and what is shown over them."""

    grid: PlaneGrid
    colours: LossColours
    shown: tuple[str, ...]

    @property
    def places(self) -> list[list[float | None]]:
        """The grid on the colour scale, ``[alpha][beta]``."""
        return self.colours.placed(self.grid.plane.loss)

    @property
    def points(self) -> list[PlanePoint]:
        """The models that can be seen."""
        return (
            [point for point in self.grid.plane.points if self.grid.in_sight(point)] if "points" in self.shown else []
        )

    @property
    def out_of_sight(self) -> list[PlanePoint]:
        """The models beyond the axes."""
        return [] if "points" not in self.shown else [p for p in self.grid.plane.points if not self.grid.in_sight(p)]

    @property
    def path_ends(self) -> list[PlanePoint]:
        """The models on the plane that a path from the float model leads to."""
        if "path" not in self.shown or self.start is None:
            return []
        return [
            point
            for point in self.grid.plane.points
            if point.name != FLOAT_VARIANT and self.grid.in_sight(point) and self.grid.on_plane(point)
        ]

    @property
    def start(self) -> PlanePoint | None:
        """The float model, where it lies on the plane."""
        return next(
            (
                point
                for point in self.grid.plane.points
                if point.name == FLOAT_VARIANT and self.grid.on_plane(point) and self.grid.in_sight(point)
            ),
            None,
        )


def gather_plane(
    result: RunResult,
    landscape: Landscape = "smooth",
    pair: str = "",
    variant: str = FLOAT_VARIANT,
    scale: LossScale = "log",
    colours: ColourRange = "run",
    clip: float | None = None,
    shown: Sequence[str] = SHOWN_ON_PLANE,
) -> PlaneDrawing | None:
    """The plane of a variant along a pair of directions; the first there is where none is named."""
    grid = plane_grid(result, variant, landscape, pair)
    if grid is None:
        return None
    own = list(grid.values)
    wide = run_range(result, "~".join(grid.plane.directions)) if colours == "run" else None
    return PlaneDrawing(grid, loss_colours(wide or own, scale=scale, clip=clip, unit=grid.unit), tuple(shown))
