"""Which lines and planes a new run measures: the few choices that most people make, and back from an older run's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components import icon
from quant_lens_engine.schema import LineOptions, PlaneOptions
from quant_lens_engine.schema.direction_name import DirectionName
from worker.store import FileRecord

PLANES: dict[str, tuple[tuple[str, str], ...]] = {
    "variants": (),
    "random": (("random", "random:2"),),
    "eigenvectors": (("eigenvector:1", "eigenvector:2"),),
    "training": (("pca:1", "pca:2"),),
}
"""Pairs of directions by the name of the choice."""

_PLANE_WORDS = {
    "variants": "FP32 and two variants",
    "random": "two random directions",
    "eigenvectors": "two leading eigenvectors",
    "training": "the training's path (PCA)",
    "none": "no plane",
}
KEPT = "kept"
"""An older run's own choice, which is none of these."""

_KINDS = {
    "random": "random, filter-normalised",
    "eigenvector:1": "leading eigenvector",
    "gradient": "gradient",
    "error": "quantization error",
    "checkpoint:1": "towards the first checkpoint",
    "pca:1": "the training's main direction (PCA)",
}
POINTS = ("", "21", "41", "101")
SAMPLINGS = {"full": "every point", "adaptive": "adaptive: leave out what neighbours foretell"}
DEFAULT_SAMPLING = PlaneOptions().sampling
MOST_TOLERANCE = 50.0
"""In per cent, as a :class:`PlaneOptions` allows."""


def plane_choice(options: PlaneOptions) -> str:
    """The name of a choice; ``kept`` where it is none of the usual ones.

    Example:
        >>> plane_choice(PlaneOptions()), plane_choice(PlaneOptions(pairs=[("random", "random")]))
        ('variants', 'random')
    """
    if not options.steps:
        return "none"
    return next((name for name, pairs in PLANES.items() if options.pairs == pairs), KEPT)


def tolerance_percent(tolerance: float) -> float:
    """As it stands in the field.

    Example:
        >>> tolerance_percent(0.07), tolerance_percent(0.15)
        (7.0, 15.0)
    """
    return float(f"{100 * tolerance:.6g}")


DEFAULT_TOLERANCE = tolerance_percent(PlaneOptions().tolerance)


def chosen_plane(
    choice: str, points: str, sampling: str, tolerance: float | None, before: PlaneOptions
) -> PlaneOptions:
    """The options that a choice stands for, changed from those of the preset or of an older run.

    Args:
        choice: what the plane goes through.
        points: along each direction; nothing: as before.
        sampling: of :data:`SAMPLINGS`.
        tolerance: of the interpolated losses, in per cent; where every point is measured, it stays as before.
        before: the preset's options, or the older run's.
    """
    if choice == "none":
        return before.model_copy(update={"steps": 0})
    changed: dict[str, Any] = {} if choice == KEPT else {"pairs": PLANES[choice]}
    if points:
        changed["steps"] = int(points)
    changed["sampling"] = sampling
    if sampling == "adaptive" and tolerance is not None and tolerance != tolerance_percent(before.tolerance):
        changed["tolerance"] = tolerance / 100
    return before.model_copy(update=changed)


def chosen_lines(kinds: Sequence[str], before: LineOptions) -> LineOptions:
    """Lines along these kinds of directions; the usual one where none is chosen."""
    return before.model_copy(update={"kinds": tuple(kinds) or ("random",)})


def needed_checkpoints(directions: Sequence[str]) -> int:
    """How many further checkpoints these directions need.

    Example:
        >>> needed_checkpoints(["random", "pca:2"]), needed_checkpoints(["random"])
        (2, 0)
    """
    named = map(DirectionName.parse, directions)
    return max((name.number for name in named if name.kind in {"checkpoint", "pca"}), default=0)


def landscape_fields(
    plane: str, points: str, sampling: str, tolerance: float | None, along: Sequence[str],
    checkpoints: Sequence[str], files: Sequence[FileRecord],
) -> html.Details:  # fmt: skip
    """The block of the New page; ``files`` are checkpoints that the server has."""
    planes = [{"value": name, "label": words} for name, words in _PLANE_WORDS.items()]
    if plane == KEPT:
        planes.append({"value": KEPT, "label": "as in the older run"})
    sizes = [{"value": size, "label": f"{size} × {size}" if size else "as the preset"} for size in POINTS]
    kinds = [{"value": name, "label": words} for name, words in _KINDS.items()]
    kinds += [{"value": name, "label": name} for name in along if name not in _KINDS]
    offered = [{"value": file.sha256, "label": f"{file.filename} · {file.sha256[:8]}"} for file in files]
    known = {file.sha256 for file in files}
    offered += [{"value": sha256, "label": sha256[:8]} for sha256 in checkpoints if sha256 not in known]
    fields = [
        dmc.MultiSelect(id="new-along", label="Lines along", value=list(along), data=kinds, w=330),
        dmc.Select(id="new-plane", label="Plane through", value=plane, data=planes, w=230, allowDeselect=False),
        dmc.Select(id="new-points", label="Points", value=points, data=sizes, w=130, allowDeselect=False),
        *_sampling_fields(sampling, tolerance),
        dmc.MultiSelect(
            id="new-checkpoints",
            label="Further checkpoints of the training, in order",
            value=list(checkpoints),
            data=offered,
            w=330,
            searchable=True,
            nothingFoundMessage="None uploaded yet",
            maxValues=64,
            placeholder="" if checkpoints else "of what is uploaded",
        ),
    ]
    return html.Details(
        [html.Summary([icon("chevron-right", 14), "Lines and planes"]), html.Div(fields, className="ql-fields")],
        className="ql-details",
    )


def _sampling_fields(sampling: str, tolerance: float | None) -> list[Any]:
    return [
        dmc.Select(
            id="new-sampling", label="Points measured", value=sampling, w=330, allowDeselect=False,
            data=[{"value": name, "label": words} for name, words in SAMPLINGS.items()],
        ),
        dmc.NumberInput(
            id="new-tolerance", label="Largest error", value=DEFAULT_TOLERANCE if tolerance is None else tolerance,
            min=0, max=MOST_TOLERANCE, step=5, suffix=" %", w=130,
            attributes={"input": {"title": "Of an interpolated loss, as a share of the loss there (adaptive)."}},
        ),
    ]  # fmt: skip
