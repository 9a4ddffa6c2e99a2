"""The switches of the tab "Landscape": which plane and which lines, and how their loss is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components import segmented
from app.routing import Visit
from quant_lens_engine.figures import (
    COLOUR_RANGES,
    LANDSCAPES,
    LINE_BANDS,
    LOSS_SCALES,
    QUANTITIES,
    SHOWN_ON_PLANE,
    direction_words,
    pair_words,
)
from quant_lens_engine.schema import RunRecord, parse_run_spec, planned_planes

PLANE_LANDSCAPES = {"smooth": "Smooth", "deployed": "Deployed"}
VIEWS = {"flat": "2-D", "both": "2-D + 3-D"}
NOTHING_SHOWN = "none"
"""In the address, where nothing is drawn over a plane."""

PLANE_SWITCHES = {
    "landscape": "run-plane-landscape", "pair": "run-pair", "variant": "run-network", "scale": "run-loss-scale",
    "colours": "run-colours", "clip": "run-plane-clip", "shown": "run-shown",
}  # fmt: skip
"""Of each option of a plane the switch that sets it."""
LINE_SWITCHES = {
    "landscape": "run-line-landscape", "direction": "run-line-kind", "quantity": "run-quantity",
    "band": "run-band", "scale": "run-line-scale", "clip": "run-line-clip",
}  # fmt: skip
"""The same of the lines."""


def plane_controls(record: RunRecord, visit: Visit) -> html.Section:
    """Which plane, whose network, and how its loss is drawn. A run that asked for no plane has nothing to choose."""
    pairs, networks = plane_choices(record)
    pair, network = visit.query.get("pair", ""), visit.query.get("network", "")
    options = [{"value": key, "label": pair_words(key)} for key in pairs]
    return _controls(
        "Which plane is shown",
        labelled("Landscape", segmented("run-plane-landscape", "Landscape of the plane",
                                        visit.choice("plane", PLANE_LANDSCAPES), PLANE_LANDSCAPES)),
        dmc.Select(id="run-pair", label="Directions", data=options, allowDeselect=False, w=206,
                   value=pair if pair in pairs else next(iter(pairs), None), placeholder="no plane"),
        dmc.Select(id="run-network", label="Network", data=networks, allowDeselect=False, w=104,
                   value=network if network in networks else next(iter(networks), None), placeholder="no plane"),
        labelled("Scale", segmented("run-loss-scale", "Scale of the loss", visit.choice("scale", LOSS_SCALES),
                                    LOSS_SCALES)),
        labelled("Colour range", segmented("run-colours", "Colour range", visit.choice("colours", COLOUR_RANGES),
                                           COLOUR_RANGES)),
        clip_field("run-plane-clip", visit.query.get("clip", "")),
        labelled("Show", _shown(visit.query.get("show", ""))),
        labelled("View", segmented("run-view", "View", visit.choice("view", VIEWS), VIEWS)),
    )  # fmt: skip


def line_controls(record: RunRecord, visit: Visit) -> html.Section:
    """Along which direction, what is drawn, and how."""
    kinds = list(parse_run_spec(record.spec).analyses.line.kinds)
    kind = visit.query.get("along", "")
    options = [{"value": name, "label": direction_words(name)} for name in kinds]
    return _controls(
        "Which lines are shown",
        labelled("Landscape", segmented("run-line-landscape", "Landscape of the lines",
                                        visit.choice("lines", LANDSCAPES), LANDSCAPES)),
        dmc.Select(id="run-line-kind", label="Direction", data=options, allowDeselect=False, w=150,
                   value=kind if kind in kinds else kinds[0]),
        labelled("Quantity", segmented("run-quantity", "Quantity", visit.choice("quantity", QUANTITIES), QUANTITIES)),
        labelled("Scale", segmented("run-line-scale", "Vertical axis", visit.choice("axis", LOSS_SCALES),
                                    LOSS_SCALES)),
        labelled("Several directions", segmented("run-band", "Several directions", visit.choice("band", LINE_BANDS),
                                                 LINE_BANDS)),
        clip_field("run-line-clip", visit.query.get("cut", "")),
    )  # fmt: skip


def _controls(label: str, *children: Any) -> html.Section:
    return html.Section(list(children), className="card ql-controls", **{"aria-label": label})


def labelled(words: str, control: Any) -> html.Div:
    """A switch under its word."""
    return html.Div([html.Span(words, className="ql-control-label"), control], className="ql-control")


def clip_field(name: str, value: str) -> dmc.NumberInput:
    """Where the drawing of a loss ends; empty: nowhere. The numbers behind it are never cut."""
    return dmc.NumberInput(
        id=name, label="Draw up to L =", value=clip_of(value) or "", placeholder="no limit", min=0, allowNegative=False,
        hideControls=True, debounce=500, w=92,
        attributes={"input": {"title": "Higher values are drawn at this one; hovering, tables and exports keep them."}},
    )  # fmt: skip


def _shown(said: str) -> dmc.CheckboxGroup:
    return dmc.CheckboxGroup(
        id="run-shown",
        value=list(shown_of(said)),
        children=html.Div([dmc.Checkbox(label=name, value=name, size="xs") for name in SHOWN_ON_PLANE],
                          className="ql-shown"),
        attributes={"root": {"aria-label": "Shown over the plane"}},
    )  # fmt: skip


def clip_of(said: str) -> float | None:
    """A limit as the address or a field has it; what is none is no limit.

    Example:
        >>> clip_of("2.5"), clip_of(""), clip_of("-1"), clip_of("nan")
        (2.5, None, None, None)
    """
    try:
        value = float(said)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def shown_of(said: str) -> tuple[str, ...]:
    """What is drawn over a plane, from words between commas; everything where nothing is said.

    Example:
        >>> shown_of("path,points"), shown_of("none"), len(shown_of(""))
        (('points', 'path'), (), 3)
    """
    if not said:
        return SHOWN_ON_PLANE
    return tuple(name for name in SHOWN_ON_PLANE if name in said.split(","))


def drawing_options(chosen: Mapping[str, str]) -> dict[str, Any]:
    """From what the switches say to what the charts take."""
    options: dict[str, Any] = dict(chosen)
    if "clip" in chosen:
        options["clip"] = clip_of(chosen["clip"])
    if "shown" in chosen:
        options["shown"] = shown_of(chosen["shown"])
    return options


def plane_choices(record: RunRecord) -> tuple[list[str], list[str]]:
    """The pairs of directions and the networks that the run asked for, measured or not."""
    spec = parse_run_spec(record.spec)
    planned = planned_planes(spec.analyses.plane, [scheme.name for scheme in spec.schemes])
    pairs = list(dict.fromkeys("~".join(plane.directions) for plane in planned))
    return pairs, list(dict.fromkeys(plane.variant for plane in planned))
