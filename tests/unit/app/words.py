"""What a component says, for tests: its texts in order."""

from __future__ import annotations

from typing import Any

from dash.development.base_component import Component


def words(part: Any) -> str:
    """All text of a component tree, joined by single spaces."""
    return " ".join(_texts(part).split())


def _texts(part: Any) -> str:
    if part is None or isinstance(part, bool):
        return ""
    if isinstance(part, str | int | float):
        return str(part)
    if isinstance(part, list | tuple):
        return " ".join(filter(None, map(_texts, part)))
    return _texts(getattr(part, "children", None)) if isinstance(part, Component) else ""


def find(part: Any, class_name: str) -> list[Component]:
    """Every component of a tree with this CSS class."""
    if isinstance(part, list | tuple):
        return [found for item in part for found in find(item, class_name)]
    if not isinstance(part, Component):
        return []
    here = [part] if class_name in str(getattr(part, "className", "")).split() else []
    return here + find(getattr(part, "children", None), class_name)
