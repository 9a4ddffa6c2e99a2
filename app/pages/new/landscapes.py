"""Which lines and planes a new run measures: the few choices that most people make, and back from an older run's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components import icon
from quant_lens_engine.schema import LineOptions, PlaneOptions

PLANES: dict[str, tuple[tuple[str, str], ...]] = {
    "variants": (),
    "random": (("random", "random:2"),),
    "eigenvectors": (("eigenvector:1", "eigenvector:2"),),
}
"""Pairs of directions by the name of the choice."""

_PLANE_WORDS = {
    "variants": "FP32 and two variants",
    "random": "two random directions",
    "eigenvectors": "two leading eigenvectors",
    "none": "no plane",
}
KEPT = "kept"
"""An older run's own choice, which is none of these."""

_KINDS = {
    "random": "random, filter-normalised",
    "eigenvector:1": "leading eigenvector",
    "gradient": "gradient",
    "error": "quantization error",
}
POINTS = ("", "21", "41", "101")


def plane_choice(options: PlaneOptions) -> str:
    """The name of a choice; ``kept`` where it is none of the usual ones.

    Example:
        >>> plane_choice(PlaneOptions()), plane_choice(PlaneOptions(pairs=[("random", "random")]))
        ('variants', 'random')
    """
    if not options.steps:
        return "none"
    return next((name for name, pairs in PLANES.items() if options.pairs == pairs), KEPT)


def chosen_plane(choice: str, points: str, before: PlaneOptions) -> PlaneOptions:
    """The options that a choice stands for, changed from those of the preset or of an older run."""
    if choice == "none":
        return before.model_copy(update={"steps": 0})
    changed: dict[str, Any] = {} if choice == KEPT else {"pairs": PLANES[choice]}
    if points:
        changed["steps"] = int(points)
    return before.model_copy(update=changed)


def chosen_lines(kinds: Sequence[str], before: LineOptions) -> LineOptions:
    """Lines along these kinds of directions; the usual one where none is chosen."""
    return before.model_copy(update={"kinds": tuple(kinds) or ("random",)})


def landscape_fields(plane: str, points: str, along: Sequence[str]) -> html.Details:
    """The block of the New page."""
    planes = [{"value": name, "label": words} for name, words in _PLANE_WORDS.items()]
    if plane == KEPT:
        planes.append({"value": KEPT, "label": "as in the older run"})
    sizes = [{"value": size, "label": f"{size} × {size}" if size else "as the preset"} for size in POINTS]
    kinds = [{"value": name, "label": words} for name, words in _KINDS.items()]
    kinds += [{"value": name, "label": name} for name in along if name not in _KINDS]
    fields = [
        dmc.MultiSelect(id="new-along", label="Lines along", value=list(along), data=kinds, w=330),
        dmc.Select(id="new-plane", label="Plane through", value=plane, data=planes, w=230, allowDeselect=False),
        dmc.Select(id="new-points", label="Points", value=points, data=sizes, w=130, allowDeselect=False),
    ]
    return html.Details(
        [html.Summary([icon("chevron-right", 14), "Lines and planes"]), html.Div(fields, className="ql-fields")],
        className="ql-details",
    )
