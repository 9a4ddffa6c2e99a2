"""What the charts of activations and of BatchNorm share: whose numbers are shown, and layers as rows, in the order in
which they run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.frame import plain, y_axis
from quant_lens_engine.figures.tokens import GROUND, MONO, Mode
from quant_lens_engine.figures.variant_style import VariantStyle, variant_styles
from quant_lens_engine.schema import FLOAT_VARIANT, LayerActivation, RunResult, Variant

MOST_ROWS = 40
ROW_PX = 30
OFFSET = 0.19
"""How far the marks of two variants stand from the middle of a row."""
_LONGEST_NAME = 26


@dataclass(frozen=True)
class VariantLayers:
    """The measured layers of one variant, by name."""

    style: VariantStyle
    layers: dict[str, LayerActivation]


def shown_variants(result: RunResult, variant: str) -> list[Variant]:
    """The float model, and the variant that is asked for; without one the first other that is measured.

    Example:
        >>> shown_variants(RunResult(variants=[Variant(name="FP32"), Variant(name="int8")]), "int8")[1].name
        'int8'
    """
    base = [item for item in result.variants if item.name == FLOAT_VARIANT]
    others = [item for item in result.variants if item.name != FLOAT_VARIANT]
    chosen = [item for item in others if item.name == variant]
    measured = [item for item in others if item.activation_statistics is not None or item.batchnorm is not None]
    return base if variant == FLOAT_VARIANT else [*base, *(chosen or measured or others)[:1]]


def known_layers(result: RunResult, variant: str) -> list[VariantLayers]:
    """The layers of the float model and of a variant that have statistics; a variant without any is left out."""
    styles = variant_styles(result.variants)
    found = []
    for item in shown_variants(result, variant):
        known = [] if item.activation_statistics is None else item.activation_statistics.layers
        layers = {layer.name: layer for layer in known if layer.output is not None}
        if layers:
            found.append(VariantLayers(styles[item.name], layers))
    return found


def layer_rows(variants: Sequence[VariantLayers]) -> tuple[list[str], int]:
    """The layers to draw, as they run, and how many there are; of very many those with the lowest SQNR."""
    layers = variants[-1].layers
    order = list(layers)
    if len(order) <= MOST_ROWS:
        return order, len(order)

    def loss(name: str) -> float:
        found = layers[name].sqnr_db
        return float("inf") if found is None else found

    worst = set(sorted(order, key=loss)[:MOST_ROWS])
    return [name for name in order if name in worst], len(order)


def rows_left_out(shown: int, total: int, which: str = "with the lowest SQNR") -> str:
    """What a sentence says where not every layer is drawn.

    Example:
        >>> rows_left_out(3, 3), rows_left_out(40, 53)
        ('', ' The 40 of 53 layers with the lowest SQNR; all in the table.')
    """
    return f" The {shown} of {total} layers {which}; all in the table." if shown < total else ""


def offsets(count: int) -> list[float]:
    """Where the marks of each variant stand within a row."""
    return [0.0] if count == 1 else [-OFFSET, OFFSET]


def row_axis(mode: Mode, names: Sequence[str], **axis: Any) -> dict[str, Any]:
    """Layers downwards, the first that runs on top; data are given by their place."""
    return y_axis(
        mode, "", range=[len(names) - 0.5, -0.5], tickvals=list(range(len(names))),
        ticktext=[short_name(name) for name in names], showgrid=False, ticks="outside", ticklen=6,
        tickcolor=GROUND[mode].surface,
        tickfont={"family": MONO, "size": 11, "color": GROUND[mode].second}, **axis,
    )  # fmt: skip


def rows_height(names: Sequence[str], least: int = 220) -> int:
    """Of a figure with these rows, in pixels."""
    return max(least, 96 + ROW_PX * len(names))


def row_lines(mode: Mode, names: Sequence[str]) -> list[dict[str, Any]]:
    """Hairlines between rows."""
    return [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": place + 0.5, "y1": place + 0.5, "layer": "below",
         "line": {"width": 1, "color": GROUND[mode].grid}}
        for place in range(len(names) - 1)
    ]  # fmt: skip


def padded(values: Iterable[float | None], share: float = 0.03) -> list[float]:
    """The range of an axis with a little room at both ends, zero included.

    Example:
        >>> padded([1.0, None, 10.0], 0.1)
        [-1.0, 11.0]
    """
    known = [value for value in values if value is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    room = share * ((high - low) or 1.0)
    return [low - room, high + room]


def short_name(name: str) -> str:
    """A layer's name that fits before a row: its end says more than its beginning."""
    return plain(name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}")


def segments(spans: Sequence[tuple[float | None, float | None]], offset: float) -> tuple[list[Any], list[Any]]:
    """x and y of one trace that draws a line for each row, from the one value to the other."""
    x: list[float | None] = []
    y: list[float | None] = []
    for place, (low, high) in enumerate(spans):
        if low is not None and high is not None:
            x += [low, high, None]
            y += [place + offset, place + offset, None]
    return x, y
