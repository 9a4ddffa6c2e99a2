"""The words on a flat plane: a box with a leader for each model, and the loss on each isoline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from quant_lens_engine.figures.frame import plain
from quant_lens_engine.figures.loss_axis import tick_text
from quant_lens_engine.figures.plane_drawing import PlaneDrawing
from quant_lens_engine.figures.plane_labels import PlacedLabel, isoline_spots, place_labels
from quant_lens_engine.figures.plane_traces import MARKER_EDGE
from quant_lens_engine.figures.tokens import GROUND, TICK_SIZE, Mode
from quant_lens_engine.figures.variant_style import VariantStyle
from quant_lens_engine.schema import PlanePoint, numbers


def plane_annotations(data: PlaneDrawing, mode: Mode, side_px: float, *, isolines: bool = True) -> list[dict[str, Any]]:
    """All of them, none over another, on a plot of ``side_px`` × ``side_px``; on a larger one they get more room."""
    labels = list(_labels(data, side_px))
    return [
        *_point_notes(labels, mode),
        *(_isoline_notes(data, [label for _, label in labels if label], side_px) if isolines else []),
    ]


def _labels(
    data: PlaneDrawing, side_px: float
) -> Iterator[tuple[tuple[PlanePoint, VariantStyle, str], PlacedLabel | None]]:
    named = [(point, data.grid.styles[point.name]) for point in data.points if point.name in data.grid.styles]
    plane = data.grid.plane
    spots = [(_share(plane.alphas, p.alpha) * side_px, (1 - _share(plane.betas, p.beta)) * side_px) for p, _ in named]
    said = ["" if point.loss is None else f"L {numbers.number(point.loss)}" for point, _ in named]
    letters = [len(style.label) + len(words) + 2 for (_, style), words in zip(named, said, strict=True)]
    placed = place_labels(spots, letters, (side_px, side_px))
    for (point, style), words, label in zip(named, said, placed, strict=True):
        yield (point, style, words), label


def _point_notes(labels: Sequence[Any], mode: Mode) -> list[dict[str, Any]]:
    ground = GROUND[mode]
    return [
        {
            "x": point.alpha, "y": point.beta, "text": f"<b>{plain(style.label)}</b>  {words}".rstrip(),
            "font": {"size": TICK_SIZE, "color": ground.text}, "bgcolor": ground.surface,
            "bordercolor": ground.strong, "borderwidth": 1, "borderpad": 3, "showarrow": True, "arrowhead": 0,
            "arrowwidth": 1, "arrowcolor": MARKER_EDGE, "ax": label.ax, "ay": label.ay, "standoff": 6,
        }
        for (point, style, words), label in labels
        if label is not None
    ]  # fmt: skip


def _isoline_notes(data: PlaneDrawing, labels: Sequence[PlacedLabel], side_px: float) -> list[dict[str, Any]]:
    plane = data.grid.plane
    if "isolines" not in data.shown or not plane.complete:
        return []
    boxes = [label.box for label in labels]
    spots = isoline_spots(data.places, data.colours.isolines, boxes, (side_px, side_px))
    low, high = data.colours.ends
    return [
        {
            "x": plane.alphas[0] + spot.x * (plane.alphas[-1] - plane.alphas[0]),
            "y": plane.betas[0] + spot.y * (plane.betas[-1] - plane.betas[0]),
            "text": numbers.number(data.colours.loss_at(level)) if level else tick_text(data.colours.loss_at(level)),
            "font": {"size": 11, "color": "#14171c" if (level - low) / (high - low) > 0.62 else "#ffffff"},
            "bgcolor": data.colours.colour(level), "borderpad": 1, "showarrow": False,
        }
        for level, spot in spots.items()
    ]  # fmt: skip


def _share(axis: Sequence[float], value: float) -> float:
    return (value - axis[0]) / ((axis[-1] - axis[0]) or 1.0)
