"""The loss over a plane: rows that are independent of each other, whoever measures them, in whatever order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from quant_lens_engine.landscape.adaptive import Row, adaptive_row
from quant_lens_engine.landscape.lines import Redeploy
from quant_lens_engine.landscape.plane_frame import PlaneFrame
from quant_lens_engine.landscape.quick_network import QuickNetwork
from quant_lens_engine.landscape.readings import Reader, Reading, gaps, losses_of
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.schema.landscape import Landscape, Plane, PlanePoint


class Adaptive(NamedTuple):
    """What may be estimated: see :func:`~quant_lens_engine.landscape.adaptive.adaptive_row`."""

    tolerance: float
    scale: float


PlaceOf = Callable[[float, float], Objective]
"""``(α, β) -> the objective at that place``"""


def smooth_places(frame: PlaneFrame, network: Objective, origin: Point) -> PlaceOf:
    """L(origin + αd₁ + βd₂) of one network."""
    return lambda alpha, beta: network.at(frame.place(origin, alpha, beta))


def quick_places(frame: PlaneFrame, quick: QuickNetwork) -> PlaceOf:
    """The same losses from the network's quick form."""
    one, two = frame.axes
    return lambda alpha, beta: quick.at((one, alpha), (two, beta))


def deployed_places(frame: PlaneFrame, base: Objective, redeploy: Redeploy) -> PlaceOf:
    """L(Q(w + αd₁ + βd₂)): rounded anew at each place."""

    def at(alpha: float, beta: float) -> Objective:
        point, computation = redeploy(frame.place(base.point, alpha, beta))
        return base.through(computation).at(point)

    return at


def measure_rows(
    frame: PlaneFrame,
    at: PlaceOf,
    rows: Sequence[int],
    *,
    landscape: Landscape,
    reader: Reader,
    points: Iterable[PlanePoint] = (),
    network: str = "",
    method: str = "",
    adaptive: Adaptive | None = None,
) -> Plane:
    """Some rows of a plane.

    A place has the same digits whichever was measured before it, so rows from several workers make the plane that one
    would have made.

    Args:
        frame: of the plane.
        at: the loss to measure, by place.
        rows: indices of α.
        landscape: which of the two it is.
        reader: reads the places.
        points: the models on it.
        network: how activations are computed, in a sentence.
        method: what makes the losses quicker to compute, in a sentence.
        adaptive: what may be estimated; None: every point is measured.

    Returns:
        the plane with ``loss`` and ``accuracy`` of these rows alone; see
        :func:`~quant_lens_engine.schema.join_pieces`.

    Example:
        >>> import torch
        >>> from quant_lens_engine.landscape import Surroundings
        >>> from quant_lens_engine.landscape.plane_frame import plane_frame
        >>> from quant_lens_engine.progress import SILENT
        >>> from quant_lens_engine.schema import PlaneOptions
        >>> data = [(torch.eye(2), torch.zeros(2, 1))]
        >>> objective = Objective(torch.nn.Linear(2, 1, bias=False), data, task="regression")
        >>> reader = Reader(SILENT, "", 9)
        >>> options = PlaneOptions(steps=3)
        >>> frame = plane_frame(Surroundings(objective), ("random:1", "random:2"), options, reader)
        >>> places = smooth_places(frame, objective, objective.point)
        >>> piece = measure_rows(frame, places, [1], landscape="smooth", reader=reader)
        >>> piece.loss[0][1] == objective.loss(), piece.measured_rows
        (True, [1])
    """
    started = time.perf_counter()
    found = [_row(frame, at, row, reader, adaptive) for row in rows]
    grid = [readings for readings, _ in found]
    estimates = [row for _, row in found if row is not None]
    return Plane(
        landscape=landscape,
        directions=list(frame.names),
        origin="FP32" if frame.joins else "own",
        units=list(frame.units),
        isometric=frame.joins,
        alphas=frame.grid,
        betas=frame.grid,
        distance=frame.reach.distance,
        distance_choice=frame.reach.sentence,
        loss=[losses_of(row) for row in grid],
        accuracy=_accuracies(grid),
        estimated=[[column not in row.measured for column in range(len(frame.grid))] for row in estimates] or None,
        estimate_error=max((row.error for row in estimates if row.checks), default=None),
        estimate_checks=sum(row.checks for row in estimates),
        measured_rows=list(rows),
        points=list(points),
        network=network,
        method=method,
        reason=gaps([reading for row in grid for reading in row]),
        elapsed_s=time.perf_counter() - started,
    )


def _row(
    frame: PlaneFrame, at: PlaceOf, row: int, reader: Reader, adaptive: Adaptive | None
) -> tuple[list[Reading], Row | None]:
    """What is read along one row, and what of it is estimated."""

    def read(column: int) -> Reading:
        return reader.read(at(frame.grid[row], frame.grid[column]), f"row {row + 1}")

    columns = len(frame.grid)
    if adaptive is None:
        return [read(column) for column in range(columns)], None
    readings: dict[int, Reading] = {}

    def loss(column: int) -> float:
        readings[column] = read(column)
        return readings[column].loss

    found = adaptive_row(loss, columns, tolerance=adaptive.tolerance, scale=adaptive.scale)
    reader.skip(columns - len(readings))
    return [readings.get(column) or Reading(found.losses[column]) for column in range(columns)], found


def _accuracies(grid: Sequence[Sequence[Reading]]) -> list[list[float | None]] | None:
    found = [[reading.accuracy if reading.is_finite else None for reading in row] for row in grid]
    return None if all(value is None for row in found for value in row) else found
