"""The loss along lines through a variant, deployed and smooth."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from quant_lens_engine.errors import InputError, bad_argument
from quant_lens_engine.landscape.basin import basin_rise, basin_width
from quant_lens_engine.landscape.directions import moved, random_directions
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.objective.model_call import Computation
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.schema.analyses import LineOptions
from quant_lens_engine.schema.run_result import Band, Landscape, Line

Redeploy = Callable[[Mapping[str, Tensor]], tuple[Mapping[str, Tensor], Computation | None]]
"""w ↦ the network as it is deployed at w: the rounded parameters, and how activations are rounded there."""


def measure_lines(
    objective: Objective,
    *,
    base_point: Point,
    variant: Objective | None = None,
    smooth: Objective | None = None,
    redeploy: Redeploy | None = None,
    options: LineOptions | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
    stage: str = "",
) -> list[Line]:
    """The loss of a variant along shared random directions d, filter-normalised at the float parameters w.

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
        progress: told after each point.
        stage: the stage's key.

    Returns:
        the deployed line first, if there is one; a loss that is not finite is null, with the reason.

    Example:
        >>> data = [(torch.eye(2), torch.zeros(2, 1))]
        >>> objective = Objective(nn.Linear(2, 1, bias=False), data, task="regression")
        >>> lines = measure_lines(objective, base_point=objective.point, options=LineOptions(steps=3, directions=1))
        >>> [line.landscape for line in lines], lines[0].alphas, lines[0].loss[1] == objective.loss()
        (['deployed', 'smooth'], [-1.0, 0.0, 1.0], True)
    """
    options = options or LineOptions()
    base = objective.at(base_point)
    directions = random_directions(objective, base.point, options.directions, seed)
    rise = basin_rise(base.loss())
    walk = _Walk(variant or base, options, directions, progress, stage, 1 if redeploy is None else 2)
    smooth_line = walk.line("smooth", rise, _smooth_function(smooth or variant or base))
    if redeploy is not None:
        return [walk.line("deployed", rise, _deployed_function(base, redeploy)), smooth_line]
    if variant is None:
        return [smooth_line.model_copy(deep=True, update={"landscape": "deployed"}), smooth_line]
    return [smooth_line]


def symmetric_grid(points: int, distance: float) -> list[float]:
    """An odd number of points from −distance to +distance, with exactly 0 in the middle.

    Example:
        >>> symmetric_grid(5, 1.0)
        [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    half = (points - 1) // 2
    return [distance * step / half for step in range(-half, half + 1)]


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


class _Reading(NamedTuple):
    loss: float
    accuracy: float | None


LossAlong = Callable[[Point, float], Objective]
"""``(direction, α) -> the objective at that place``"""


def _smooth_function(function: Objective) -> LossAlong:
    return lambda direction, alpha: function.at(moved(function.point, direction, alpha))


def _deployed_function(base: Objective, redeploy: Redeploy) -> LossAlong:
    def at(direction: Point, alpha: float) -> Objective:
        point, computation = redeploy(moved(base.point, direction, alpha))
        return base.through(computation).at(point)

    return at


class _Walk:
    """Steps along the directions, and tells how far it is."""

    def __init__(
        self,
        origin: Objective,
        options: LineOptions,
        directions: Sequence[Point],
        progress: Progress,
        stage: str,
        landscapes: int,
    ) -> None:
        self.origin, self.directions = origin, directions
        self.alphas = symmetric_grid(options.points, options.distance)
        self.progress, self.stage = progress, stage
        self.done = 0
        # α = 0 lies on every direction of both landscapes, and is measured once.
        self.total = landscapes * len(directions) * (len(self.alphas) - 1) + 1
        self.centre: _Reading | None = None

    def line(self, landscape: Landscape, rise: float, along: LossAlong) -> Line:
        """One landscape along all directions."""
        started = time.perf_counter()
        self.centre = centre = self.centre or self._read(self.origin, landscape)
        readings = [
            [centre if alpha == 0 else self._read(along(direction, alpha), landscape) for alpha in self.alphas]
            for direction in self.directions
        ]
        line = _summarised(landscape, self.alphas, readings)
        line.basin_width = basin_width(line.alphas, line.loss, rise)
        line.basin_rise = rise
        line.elapsed_s = time.perf_counter() - started
        return line

    def _read(self, objective: Objective, landscape: Landscape) -> _Reading:
        terms = objective.measure(check_cancelled=self.progress.check_cancelled)
        self.done += 1
        self.progress.report(self.stage, self.done, self.total, landscape)
        accuracy = terms.accuracy
        return _Reading(terms.loss.value, None if accuracy is None else accuracy.value)


def _summarised(landscape: Landscape, alphas: list[float], readings: list[list[_Reading]]) -> Line:
    """Mean and band over the directions; a point that is missing on one direction is missing in the mean."""
    losses = np.array([[reading.loss for reading in row] for row in readings])
    finite = np.isfinite(losses)
    complete = finite.all(0)
    with np.errstate(invalid="ignore"):  # ∞ − ∞ at a point that becomes a gap
        mean = _with_gaps(losses.mean(0), complete)
    band = None
    if len(readings) > 1:
        band = Band(low=_with_gaps(losses.min(0), complete), high=_with_gaps(losses.max(0), complete))
    missing = int((~finite).sum())
    return Line(
        landscape=landscape,
        directions=len(readings),
        alphas=alphas,
        loss=mean,
        band=band,
        per_direction=[_with_gaps(row, mask) for row, mask in zip(losses, finite, strict=True)],
        accuracy=_mean_accuracy(readings),
        reason=f"the loss is not finite at {missing} of {losses.size} points" if missing else None,
    )


def _mean_accuracy(readings: list[list[_Reading]]) -> list[float | None] | None:
    columns = [[reading.accuracy for reading in column] for column in zip(*readings, strict=True)]
    if any(value is None for column in columns for value in column):
        return None
    return [math.fsum(value for value in column if value is not None) / len(column) for column in columns]


def _with_gaps(values: NDArray[np.float64], present: NDArray[np.bool_]) -> list[float | None]:
    return [float(value) if there else None for value, there in zip(values, present, strict=True)]
