"""The largest and the smallest eigenvalues of every variant by rank, each with the interval that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.end_labels import EndLabel, end_label_annotations
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, x_axis, y_axis
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.spectra import LETTER_PX, exponents, known_curvatures, lambda_ticks, log_range
from quant_lens_engine.figures.tokens import GROUND, TITLE_SIZE, Mode
from quant_lens_engine.figures.variant_style import VariantStyle
from quant_lens_engine.schema import FLOAT_VARIANT, Eigenvalue, RunResult, numbers

HEIGHT = 340
_GROUP_WIDTH = 0.74
_MARK_PX = 7
_STEM_OPACITY = 0.3
_PANELS = ((0.0, 0.43), (0.57, 1.0))


@dataclass(frozen=True)
class EigenvalueSet:
    """One variant's eigenvalues from both ends."""

    style: VariantStyle
    largest: list[Eigenvalue]
    smallest: list[Eigenvalue]
    complete: bool | None = None


@dataclass(frozen=True)
class EigenvalueSets:
    """The variants in the run's order."""

    sets: list[EigenvalueSet]
    unit: str = "nats"

    def end(self, which: int) -> list[tuple[EigenvalueSet, list[Eigenvalue]]]:
        """Every variant's eigenvalues of one panel: 0 the largest, 1 the smallest."""
        return [(item, (item.largest, item.smallest)[which]) for item in self.sets]


@dataclass(frozen=True)
class Panel:
    """A panel's vertical axis: |λ| on a log scale where all values and intervals have one sign, else λ itself."""

    span: tuple[float, float]
    log: bool
    sign: float

    def axis(self) -> dict[str, Any]:
        """Plotly's settings; negative values run downwards, as λ does."""
        if not self.log:
            return {"type": "linear", "range": list(self.span), "zeroline": True}
        ends = exponents(self.span)
        return {"type": "log", "range": ends if self.sign > 0 else ends[::-1], **lambda_ticks(*self.span, self.sign)}


def gather_eigenvalues(result: RunResult) -> EigenvalueSets | None:
    """The eigenvalues of the variants that have any; None where none has."""
    sets = [
        EigenvalueSet(style, _known(curvature.largest), _known(curvature.smallest), curvature.complete)
        for style, curvature in known_curvatures(result)
    ]
    sets = [item for item in sets if item.largest or item.smallest]
    return EigenvalueSets(sets, loss_unit(result.task)) if sets else None


def _known(found: Sequence[Eigenvalue]) -> list[Eigenvalue]:
    return [item for item in found if item.value is not None]


def draw_eigenvalues(data: EigenvalueSets, mode: Mode) -> FigureSpec:
    """Two panels, largest and smallest; a mark a variant and rank, labels at the last rank of the second panel."""
    panels = [_panel([value for _, found in data.end(which) for value in found]) for which in (0, 1)]
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    for which, panel in enumerate(panels):
        traces += [
            _stems(item, found, place, len(data.sets), which, panel, mode)
            for place, (item, found) in enumerate(data.end(which))
            if found
        ]
        traces += [
            _trace(item, found, place, len(data.sets), which, panel, mode)
            for place, (item, found) in enumerate(data.end(which))
            if found
        ]
        most = max((len(found) for _, found in data.end(which)), default=1) or 1
        layout |= _axes(which, panel, most, data.unit, mode)
    longest = max(len(item.style.label) for item in data.sets)
    margin = {"l": 52, "r": 26 + round(LETTER_PX * longest), "t": 28, "b": 42}
    return framed(
        mode, traces, height=HEIGHT, margin=margin, uirevision="eigenvalues",
        annotations=[*_titles(mode), *_labels(data, panels, mode)], **layout,
    )  # fmt: skip


def _panel(found: Sequence[Eigenvalue]) -> Panel:
    values = [edge for item in found for edge in (item.value, item.lower, item.upper) if edge is not None]
    for sign in (1.0, -1.0):
        if values and all(sign * value > 0 for value in values):
            return Panel(log_range([sign * value for value in values]), True, sign)
    low, high = min([0.0, *values]), max([0.0, *values])
    margin = 0.06 * ((high - low) or 1.0)
    return Panel((low - margin, high + margin), False, 1.0)


def _stems(
    item: EigenvalueSet, found: list[Eigenvalue], place: int, of: int, which: int, panel: Panel, mode: Mode
) -> dict[str, Any]:
    """Thin lines from zero, or from the end of a log axis that is nearest to it."""
    sign = panel.sign if panel.log else 1.0
    ground = panel.span[0] if panel.log else 0.0
    suffix = "" if which == 0 else "2"
    places = [rank + _offset(place, of) for rank in range(1, len(found) + 1)]
    return {
        "type": "scatter",
        "mode": "lines",
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
        "x": [x for at in places for x in (at, at, None)],
        "y": [y for value in found for y in (ground, sign * (value.value or 0.0), None)],
        "line": {"width": 1, "color": item.style.fill[mode]},
        "opacity": _STEM_OPACITY,
        "hoverinfo": "skip",
    }


def _trace(
    item: EigenvalueSet, found: list[Eigenvalue], place: int, of: int, which: int, panel: Panel, mode: Mode
) -> dict[str, Any]:
    sign = panel.sign if panel.log else 1.0
    values = [value.value or 0.0 for value in found]
    above = [max((value.upper if value.upper is not None else centre) - centre, 0.0) for value, centre in
             zip(found, values, strict=True)]  # fmt: skip
    below = [max(centre - (value.lower if value.lower is not None else centre), 0.0) for value, centre in
             zip(found, values, strict=True)]  # fmt: skip
    suffix = "" if which == 0 else "2"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(item.style.label),
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
        "x": [rank + _offset(place, of) for rank in range(1, len(found) + 1)],
        "y": [sign * value for value in values],
        "marker": {"symbol": item.style.marker, "size": _MARK_PX, "color": item.style.fill[mode]},
        # The axis of negative values shows |λ|: there the interval's lower end lies further out.
        "error_y": {"type": "data", "symmetric": False, "array": above if sign > 0 else below,
                    "arrayminus": below if sign > 0 else above, "color": item.style.fill[mode], "thickness": 1.2,
                    "width": 3},
        "customdata": [_hover(item, value, rank, which) for rank, value in enumerate(found, 1)],
        "hovertemplate": "%{customdata}<extra></extra>",
    }  # fmt: skip


def _offset(place: int, of: int) -> float:
    return 0.0 if of == 1 else _GROUP_WIDTH * (place / (of - 1) - 0.5)


def _hover(item: EigenvalueSet, found: Eigenvalue, rank: int, which: int) -> str:
    end = "largest" if which == 0 else "smallest"
    sure = "" if found.confidence is None else f" ({numbers.percent(found.confidence, digits=2)})"
    lines = [f"<b>{plain(item.style.name)}</b>  {end}, {rank}", f"λ {numbers.exact(found.value)}"]
    if found.lower is not None and found.upper is not None:
        lines.append(f"{numbers.number(found.lower, digits=6)} to {numbers.number(found.upper, digits=6)}{sure}")
    lines += [] if found.residual is None else [f"residual {numbers.number(found.residual)}"]
    return "<br>".join(lines)


def _axes(which: int, panel: Panel, most: int, unit: str, mode: Mode) -> dict[str, Any]:
    suffix, anchor = ("", "y") if which == 0 else ("2", "y2")
    stride = max(1, round(most / 8))
    titles = (f"λ  ({unit}, log)" if panel.log else f"λ  ({unit})", "")
    return {
        f"xaxis{suffix}": x_axis(
            mode, "rank from the top" if which == 0 else "rank from the bottom", domain=list(_PANELS[which]),
            anchor=anchor, range=[0.4, most + 0.6], tickvals=list(range(1, most + 1, stride)), showgrid=False,
        ),
        f"yaxis{suffix}": y_axis(
            mode, titles[which], anchor=f"x{suffix}", zerolinecolor=GROUND[mode].axis, zerolinewidth=1, **panel.axis()
        ),
    }  # fmt: skip


def _titles(mode: Mode) -> list[dict[str, Any]]:
    return [
        {"text": words, "x": _PANELS[which][0], "y": 1.0, "xref": "paper", "yref": "paper", "xanchor": "left",
         "yanchor": "bottom", "showarrow": False, "font": {"size": TITLE_SIZE, "color": GROUND[mode].second}}
        for which, words in enumerate(("Largest", "Smallest"))
    ]  # fmt: skip


def _labels(data: EigenvalueSets, panels: Sequence[Panel], mode: Mode) -> list[dict[str, Any]]:
    which = 1 if any(item.smallest for item in data.sets) else 0
    panel = panels[which]
    sign = panel.sign if panel.log else 1.0
    ends = [(item, found) for item, found in data.end(which) if found]
    labels = [
        EndLabel(sign * (found[-1].value or 0.0), f"<b>{plain(item.style.label)}</b>", item.style.ink[mode])
        for item, found in ends
    ]
    most = max(len(found) for _, found in ends)
    # Where the axis runs downwards, so do the labels.
    flipped = panel.log and sign < 0
    made = end_label_annotations(labels, x=most + 0.6, y_range=panel.span, log=panel.log, height_px=HEIGHT - 70)
    suffix = "" if which == 0 else "2"
    return [
        note | {"xref": f"x{suffix}", "yref": f"y{suffix}", "ay": -note["ay"] if flipped else note["ay"]}
        for note in made
    ]


def describe_eigenvalues(data: EigenvalueSets) -> str:
    """Which variants have surely negative eigenvalues, and that bars are intervals."""
    base = next((item for item in data.sets if item.style.name == FLOAT_VARIANT), data.sets[0])
    sure = next((value.confidence for value in [*base.largest, *base.smallest] if value.confidence is not None), None)
    bars = "Bars: the interval that holds each" + (f" ({numbers.percent(sure, digits=2)})." if sure else ".")
    partial = [
        item.style.name for item in data.sets if item.complete is False and len(item.largest + item.smallest) > 2
    ]
    if partial:
        bars += f" Behind the first ones some may be missing: {', '.join(partial)}."
    negative = [item.style.name for item in data.sets if any((v.upper or v.value or 0.0) < 0 for v in item.smallest)]
    if not negative:
        return f"No variant has an eigenvalue that is surely negative. {bars}"
    who = f"{', '.join(negative)}:"
    if len(negative) == len(data.sets):
        who = "Every variant has" if len(data.sets) > 1 else f"{negative[0]} has"
    return f"{who} directions of surely negative curvature. {bars}"


def tabulate_eigenvalues(data: EigenvalueSets) -> DataTable:
    """One row an eigenvalue."""
    columns = ("variant", "end", "rank", "lambda", "lower", "upper", "residual", "confidence")
    rows = [
        (item.style.name, ("largest", "smallest")[which], rank, v.value, v.lower, v.upper, v.residual, v.confidence)
        for which in (0, 1)
        for item, found in data.end(which)
        for rank, v in enumerate(found, 1)
    ]
    return DataTable(columns, rows)


figure(
    Chart("eigenvalues", "Eigenvalues at both ends", gather_eigenvalues, draw_eigenvalues, describe_eigenvalues,
          tabulate_eigenvalues)
)  # fmt: skip
