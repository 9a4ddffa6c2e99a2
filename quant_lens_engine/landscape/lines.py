"""The loss along lines through a variant, deployed and smooth."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from quant_lens_engine.errors import InputError, bad_argument
from quant_lens_engine.landscape.barrier import barrier
from quant_lens_engine.landscape.basin import find_basin
from quant_lens_engine.landscape.epsilon_sharpness import EPSILON, epsilon_sharpness
from quant_lens_engine.landscape.line_frame import LineFrame, LineFrames
from quant_lens_engine.landscape.quick_network import quick_network
from quant_lens_engine.landscape.readings import Divergence, Reader, Reading, gaps, losses_of, mean_of
from quant_lens_engine.landscape.roughness import roughness
from quant_lens_engine.landscape.surroundings import Surroundings
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.objective.model_call import Computation
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.schema import DirectionName
from quant_lens_engine.schema.analyses import LineOptions, line_points
from quant_lens_engine.schema.direction_name import OWN
from quant_lens_engine.schema.landscape import Band, Landscape, Line

Redeploy = Callable[[Mapping[str, Tensor]], tuple[Mapping[str, Tensor], Computation | None]]
"""w ↦ the network as it is deployed at w: the rounded parameters, and how activations are rounded there."""

PlaceOf = Callable[[LineFrame, int, float], Objective]
"""``(frame, number of the direction, α) -> the objective there``"""


def measure_lines(
    objective: Objective,
    *,
    base_point: Point,
    variant: Objective | None = None,
    smooth: Objective | None = None,
    redeploy: Redeploy | None = None,
    options: LineOptions | None = None,
    seed: int = 0,
    frames: LineFrames | None = None,
    divergence: Callable[[], Divergence] | None = None,
    progress: Progress = SILENT,
    stage: str = "",
) -> list[Line]:
    """The loss of a variant along shared directions d.

    *Smooth* is L(Q(w) + αd), the landscape that curvature describes. *Deployed* is L(Q(w + αd)), the staircase that
    quantization makes; ranges are observed anew at each α. At α = 0 both are the variant's evaluated loss, digit for
    digit.

    Args:
        objective: of the model; its point does not matter.
        base_point: the float parameters w: they set directions and scale, for every variant.
        variant: the variant's loss, at its own point; None for the float model, whose two landscapes are one (given
            twice).
        smooth: the same, with activations that keep their rounding offsets; None where they are not rounded.
        redeploy: the network as it is deployed at other float parameters. None for a variant that cannot be quantized
            again (smooth only).
        options: grid and directions.
        seed: of the run.
        frames: directions and grids that other variants have used already; None: made here.
        divergence: makes a sum of KL(float ‖ here) for each point; None: no KL.
        progress: told after each point.
        stage: the stage's key.

    Returns:
        for each kind of direction the deployed line first, if there is one; a loss that is not finite is null, with
        the reason.

    Example:
        >>> data = [(torch.eye(2), torch.zeros(2, 1))]
        >>> objective = Objective(nn.Linear(2, 1, bias=False), data, task="regression")
        >>> lines = measure_lines(objective, base_point=objective.point, options=LineOptions(steps=3, directions=1))
        >>> [line.landscape for line in lines], lines[0].alphas[1], lines[0].loss[1] == objective.loss()
        (['deployed', 'smooth'], 0.0, True)
    """
    options = options or LineOptions()
    base = objective.at(base_point)
    frames = frames or LineFrames(Surroundings(base, seed), options, Reader(progress, stage, 0, divergence))
    around = replace(frames.around, own=None if variant is None else variant.point)
    landscapes = 1 if redeploy is None else 2
    reader = Reader(progress, stage, landscapes * line_points(options), divergence)
    walk = _Walk(base, variant, smooth or variant or base, redeploy, frames.rise, reader)
    kinds = [kind for kind in options.kinds if variant is not None or DirectionName.parse(kind).kind not in OWN]
    return [line for kind in kinds for line in walk.along(frames.frame(kind, around))]


def measure_path(
    objective: Objective,
    variant: Objective,
    *,
    points: int = 31,
    divergence: Callable[[], Divergence] | None = None,
    progress: Progress = SILENT,
    stage: str = "",
) -> Line:
    """The loss on the straight line from the float parameters to a variant's: L(w + α(Q(w) − w)).

    Activations are rounded as the variant rounds them, all the way: α = 1 is the variant's evaluated loss, digit for
    digit, and α = 0 the float weights' in that network.

    Args:
        objective: of the float model, at w.
        variant: the variant's loss, at its own point.
        points: of the grid, odd.
        divergence: makes a sum of KL(float ‖ here) for each point; None: no KL.
        progress: told after each point.
        stage: the stage's key.

    Example:
        >>> data = [(torch.eye(2), torch.zeros(2, 1))]
        >>> objective = Objective(nn.Linear(2, 1, bias=False), data, task="regression")
        >>> variant = objective.at({"weight": torch.ones(1, 2)})
        >>> path = measure_path(objective, variant, points=7)
        >>> path.loss[path.alphas.index(1.0)] == variant.loss(), path.barrier
        (True, 0.0)
    """
    started = time.perf_counter()
    reader = Reader(progress, stage, points, divergence)
    around = Surroundings(objective, own=variant.point)
    frame = LineFrames(around, LineOptions(steps=points)).frame("path", around)
    readings = [reader.read(variant.at(frame.place(objective.point, 0, alpha)), "path") for alpha in frame.alphas]
    line = _summarised(frame, "smooth", [readings])
    line.barrier = barrier(line.alphas, line.loss)
    line.elapsed_s = time.perf_counter() - started
    return line


def trace_1d_loss(
    model: nn.Module,
    loader: Iterable[Any],
    criterion: nn.Module | Callable[..., Tensor] | None = None,
    device: str | torch.device = "cpu",
    distance: float = 1.0,
    steps: int = 51,
    seed: int = 0,
    **objective: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The loss of ``model`` along one random, filter-normalised direction, over all batches of ``loader``.

    Args:
        model: untouched.
        loader: batches, read once.
        criterion: None for cross-entropy.
        device: where to compute.
        distance: the grid spans −distance to +distance, in units of ‖θ‖ per filter.
        steps: points; an even number becomes one more, so that α = 0 is sampled.
        seed: of the direction.
        objective: ``task``, ``forward``, ``dtype``, ``micro_batch``.

    Returns:
        ``(alphas, losses)``, both ``(points,)``; a loss that is not finite is NaN.

    Raises:
        InputError: ``bad_argument``: steps or distance out of range; ``no_parameters``: the model has none to move
            (``quantize_dynamic`` hides them); a flat line would say nothing.

    Example:
        >>> alphas, losses = trace_1d_loss(nn.Linear(2, 2), [(torch.eye(2), torch.tensor([0, 1]))], steps=4)
        >>> alphas.tolist()
        [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    try:
        options = LineOptions(directions=1, steps=steps, distance=distance)
    except ValidationError as error:
        first = error.errors()[0]
        may_be = first["msg"].removeprefix("Input should be ")
        raise bad_argument(str(first["loc"][0]), first["input"], may_be) from None
    function = Objective(model, loader, criterion, device=device, **objective)
    if not any(function.point[name].ndim >= 2 for name in function.free):
        raise InputError(
            "the model has no floating-point weight matrix to move",
            hint="give the float model; a converted INT8 model hides its weights (see QuantDiagnostic.add_int8_model)",
            code="no_parameters",
        )
    line = measure_lines(function, base_point=function.point, options=options, seed=seed)[-1]
    losses = [math.nan if loss is None else loss for loss in line.loss]
    return np.array(line.alphas), np.array(losses)


@dataclass
class _Walk:
    """The lines of one variant."""

    base: Objective
    variant: Objective | None
    smooth: Objective
    redeploy: Redeploy | None
    rise: float
    reader: Reader
    _centre: Reading | None = None

    def along(self, frame: LineFrame) -> list[Line]:
        """The landscapes along one kind of direction."""
        smooth_at, method = self._smooth_along(frame)
        smooth_line, readings = self._line(frame, "smooth", smooth_at)
        smooth_line.method = method
        if self.variant is None:
            return [smooth_line.model_copy(deep=True, update={"landscape": "deployed"}), smooth_line]
        if self.redeploy is None:
            return [smooth_line]
        deployed_line, staircase = self._line(frame, "deployed", self._deployed_at(self.redeploy))
        deployed_line.roughness = roughness(list(map(losses_of, staircase)), list(map(losses_of, readings)))
        return [deployed_line, smooth_line]

    def _smooth_along(self, frame: LineFrame) -> tuple[PlaceOf, str]:
        """The smooth loss by direction and α, in its quickest form, and what that is."""
        ways = [direction.steps for direction in frame.directions]
        quick = quick_network(self.smooth, self.smooth.point, ways, len(ways) * (len(frame.alphas) - 1))
        if quick is None:
            return lambda frame, number, alpha: self.smooth.at(frame.place(self.smooth.point, number, alpha)), ""
        return lambda frame, number, alpha: quick.at((frame.steps(number), alpha)), quick.sentence

    def _deployed_at(self, redeploy: Redeploy) -> PlaceOf:
        def at(frame: LineFrame, number: int, alpha: float) -> Objective:
            point, computation = redeploy(frame.place(self.base.point, number, alpha))
            return self.base.through(computation).at(point)

        return at

    def _line(self, frame: LineFrame, landscape: Landscape, at: PlaceOf) -> tuple[Line, list[list[Reading]]]:
        started = time.perf_counter()
        centre = self._read_centre()
        known = frame.known if self.variant is None else {}
        readings = []
        for number in range(len(frame.directions)):
            row = []
            for alpha in frame.alphas:
                there = centre if alpha == 0 else known.get((number, alpha))
                if there is None:
                    there = self.reader.read(at(frame, number, alpha), f"{frame.kind} · {landscape}")
                else:
                    self.reader.skip(1)
                row.append(there)
            readings.append(row)
        line = _summarised(frame, landscape, readings)
        _add_basin(line, self.rise)
        line.elapsed_s = time.perf_counter() - started
        return line, readings

    def _read_centre(self) -> Reading:
        """α = 0 lies on every direction of both landscapes, and is measured once."""
        if self._centre is None:
            self._centre = self.reader.read(self.variant or self.base)
        return self._centre


def _summarised(frame: LineFrame, landscape: Landscape, readings: list[list[Reading]]) -> Line:
    """Mean and band over the directions; a point that is missing on one direction is missing in the mean."""
    per_direction = list(map(losses_of, readings))
    columns = list(zip(*per_direction, strict=True))
    mean = [mean_of(column) for column in columns]
    band = None
    if len(readings) > 1:
        complete = [None if None in column else [value for value in column if value is not None] for column in columns]
        band = Band(
            low=[min(column) if column else None for column in complete],
            high=[max(column) if column else None for column in complete],
        )
    return Line(
        landscape=landscape,
        direction=str(frame.kind),
        directions=len(readings),
        origin="FP32" if frame.is_path else "own",
        unit=frame.directions[0].unit,
        alphas=frame.alphas,
        distance=frame.reach.distance,
        distance_choice=frame.reach.sentence,
        loss=mean,
        band=band,
        per_direction=per_direction,
        accuracy=_means([[reading.accuracy for reading in row] for row in readings]),
        kl=_means([[reading.kl for reading in row] for row in readings]),
        reason=gaps([reading for row in readings for reading in row]),
    )


def _means(rows: list[list[float | None]]) -> list[float | None] | None:
    """Over the directions; None where they have no meaning."""
    means = [mean_of([None if value is None or not math.isfinite(value) else value for value in column])
             for column in zip(*rows, strict=True)]  # fmt: skip
    return None if all(mean is None for mean in means) else means


def _add_basin(line: Line, rise: float) -> None:
    basin = find_basin(line.alphas, line.loss, rise)
    line.basin_width, line.basin_asymmetry, line.basin_rise = basin.width, basin.asymmetry, rise
    line.basin_widths = [find_basin(line.alphas, losses, rise).width for losses in line.per_direction]
    line.epsilon = EPSILON * line.alphas[-1]
    line.epsilon_sharpness = epsilon_sharpness(line.alphas, line.per_direction, line.epsilon)
