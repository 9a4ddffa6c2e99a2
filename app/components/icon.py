"""Icons: Lucide's drawings (from the installed package), as CSS masks that take the colour of the text around them."""

from __future__ import annotations

import warnings
from functools import cache
from urllib.parse import quote

from dash import html
from lucide import lucide_icon

from app.components.verdict_shape import VERDICT_SHAPES

ICONS: tuple[str, ...] = (
    "archive", "archive-restore", "arrow-down", "arrow-up", "box", "check", "chevron-down", "chevron-right",
    "circle-check", "circle-question-mark", "circle-stop", "clock", "columns-3", "copy", "cpu", "database",
    "download", "ellipsis", "external-link", "file-box", "git-compare-arrows", "hash", "info", "layers", "link",
    "log-out", "maximize-2", "minus", "moon", "pencil", "pin", "play", "plus", "rotate-ccw", "search", "share-2",
    "sliders-horizontal", "square-terminal", "sun", "table-2", "tag", "trash", "triangle-alert", "upload", "user", "x",
)  # fmt: skip


def icon(name: str, size: int = 16, label: str | None = None, class_name: str = "") -> html.Span:
    """An icon of :data:`ICONS` or a verdict's shape; silent for a screen reader unless it has a ``label``."""
    described = {"role": "img", "aria-label": label} if label else {"aria-hidden": "true"}
    return html.Span(
        className=f"icon icon-{name} {class_name}".strip(), style={"width": size, "height": size}, **described
    )


@cache
def icon_sheet() -> str:
    """The CSS of every icon."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        drawings = {name: str(lucide_icon(name, stroke_width="1.75")) for name in ICONS} | VERDICT_SHAPES
    return "".join(
        f'.icon-{name}{{--icon:url("data:image/svg+xml,{quote(" ".join(svg.split()), safe=_SAFE)}")}}'
        for name, svg in drawings.items()
    )


_SAFE = " /:=,.;-+*!@()'"
