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

from quant_lens_engine.errors import InputError, SpecError
from quant_lens_engine.landscape.basin import basin_rise, basin_width
from quant_lens_engine.landscape.directions import moved, random_directions
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.schema.analyses import LineOptions
from quant_lens_engine.schema.run_result import Band, Landscape, Line

Requantize = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def measure_lines(
    objective: Objective,
    *,
    base_point: Point,
    variant_point: Point,
    requantize: Requantize | None,
    options: LineOptions | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
    stage: str = "",
) -> list[Line]:
    """The loss of a variant along shared random directions d, filter-normalised at the float parameters w.

    *Smooth* is L(Q(w) + αd), the landscape that curvature describes. *Deployed* is L(Q(w + αd)), the staircase that
    quantization makes; scales are observed anew at each α. At α = 0 both are the variant's evaluated loss, digit for
    digit.

    Args:
        objective: of the model; its point does not matter.
        base_point: the float parameters w: they set directions and scale, for every variant.
        variant_point: the variant's dequantized parameters Q(w).
        requantize: w ↦ Q(w). None for the float model, whose two landscapes are one (given twice), and for a variant
            that cannot be quantized again (smooth only).
        options: grid and directions.
        seed: of the run.
        progress: told after each point.
        stage: the stage's key.

    Returns:
        the deployed line first, if there is one; a loss that is not finite is null, with the reason.

    Example:
        >>> data = [(torch.eye(2), torch.zeros(2, 1))]
        >>> objective = Objective(nn.Linear(2, 1, bias=False), data, task="regression")
        >>> lines = measure_lines(objective, base_point=objective.point, variant_point=objective.point, requantize=None,
        ...                       options=LineOptions(steps=3, directions=1))
        >>> [line.landscape for line in lines], lines[0].alphas, lines[0].loss[1] == objective.loss()
        (['deployed', 'smooth'], [-1.0, 0.0, 1.0], True)
    """
    options = options or LineOptions()
    base = objective.at(base_point)
    directions = random_directions(objective, base.point, options.directions, seed)
    rise = basin_rise(base.loss())
    is_float = requantize is None and _same(base.point, objective.at(variant_point).point)
    landscapes: list[Landscape] = ["smooth"] if requantize is None else ["deployed", "smooth"]
    walk = _Walk(objective, options, directions, progress, stage, len(landscapes))
    lines = []
    for landscape in landscapes:
        if landscape == "deployed" and requantize is not None:
            line = walk.line(landscape, base.point, rise, requantize)
        else:
            line = walk.line(landscape, objective.at(variant_point).point, rise, None)
        lines.append(line)
    if is_float:
        lines.insert(0, lines[0].model_copy(deep=True, update={"landscape": "deployed"}))
    return lines


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
        InputError: ``no_parameters``: the model has none to move (``quantize_dynamic`` hides them); a flat line would
            say nothing.
        SpecError: steps or distance out of range.

    Example:
        >>> alphas, losses = trace_1d_loss(nn.Linear(2, 2), [(torch.eye(2), torch.tensor([0, 1]))], steps=4)
        >>> alphas.tolist()
        [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    try:
        options = LineOptions(directions=1, steps=steps, distance=distance)
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(f"{first['loc'][0]}: {first['msg']}", hint="see help(trace_1d_loss)") from None
    function = Objective(model, loader, criterion, device=device, **objective)
    if not any(function.point[name].ndim >= 2 for name in function.free):
        raise InputError(
            "the model has no floating-point weight matrix to move",
            hint="give the float model; a converted INT8 model hides its weights (see QuantDiagnostic.add_int8_model)",
            code="no_parameters",
        )
    line = measure_lines(
        function, base_point=function.point, variant_point=function.point, requantize=None, options=options, seed=seed
    )[-1]
    losses = [math.nan if loss is None else loss for loss in line.loss]
    return np.array(line.alphas), np.array(losses)


class _Reading(NamedTuple):
    loss: float
    accuracy: float | None


class _Walk:
    """Steps along the directions, and tells how far it is."""

    def __init__(
        self,
        objective: Objective,
        options: LineOptions,
        directions: Sequence[Point],
        progress: Progress,
        stage: str,
        landscapes: int,
    ) -> None:
        self.objective, self.directions = objective, directions
        self.alphas = symmetric_grid(options.points, options.distance)
        self.progress, self.stage = progress, stage
        self.done = 0
        # α = 0 lies on every direction and is measured once a landscape.
        self.total = landscapes * (len(directions) * (len(self.alphas) - 1) + 1)

    def line(self, landscape: Landscape, origin: Point, rise: float, requantize: Requantize | None) -> Line:
        """One landscape along all directions from ``origin``."""
        started = time.perf_counter()
        centre = self._read(origin, requantize, landscape)
        readings = [
            [
                centre if alpha == 0 else self._read(moved(origin, direction, alpha), requantize, landscape)
                for alpha in self.alphas
            ]
            for direction in self.directions
        ]
        line = _summarised(landscape, self.alphas, readings)
        line.basin_width = basin_width(line.alphas, line.loss, rise)
        line.basin_rise = rise
        line.elapsed_s = time.perf_counter() - started
        return line

    def _read(self, point: Point, requantize: Requantize | None, landscape: Landscape) -> _Reading:
        terms = self.objective.measure(
            point if requantize is None else self.objective.at(requantize(point)).point,
            check_cancelled=self.progress.check_cancelled,
        )
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


def _same(one: Point, other: Point) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())
