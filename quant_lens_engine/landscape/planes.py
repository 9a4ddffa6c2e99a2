"""The loss over a plane: rows that are independent of each other, whoever measures them, in whatever order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from quant_lens_engine.landscape.lines import Redeploy
from quant_lens_engine.landscape.plane_frame import PlaneFrame
from quant_lens_engine.landscape.readings import Reader, Reading, gaps, losses_of
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.schema.landscape import Landscape, Plane, PlanePoint

PlaceOf = Callable[[float, float], Objective]
"""``(α, β) -> the objective at that place``"""


def smooth_places(frame: PlaneFrame, network: Objective, origin: Point) -> PlaceOf:
    """L(origin + αd₁ + βd₂) of one network."""
    return lambda alpha, beta: network.at(frame.place(origin, alpha, beta))


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
    grid = [[reader.read(at(frame.grid[row], beta), f"row {row + 1}") for beta in frame.grid] for row in rows]
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
        measured_rows=list(rows),
        points=list(points),
        network=network,
        reason=gaps([reading for row in grid for reading in row]),
        elapsed_s=time.perf_counter() - started,
    )


def _accuracies(grid: Sequence[Sequence[Reading]]) -> list[list[float | None]] | None:
    found = [[reading.accuracy if reading.is_finite else None for reading in row] for row in grid]
    return None if all(value is None for row in found for value in row) else found
