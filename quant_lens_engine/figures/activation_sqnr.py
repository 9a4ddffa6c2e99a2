"""What quantization leaves of each layer's signal: SQNR of its output by itself, and with all before it quantized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quant_lens_engine.figures.activation_layers import (
    VariantLayers,
    known_layers,
    layer_rows,
    padded,
    row_axis,
    row_lines,
    rows_height,
    rows_left_out,
    segments,
)
from quant_lens_engine.figures.chart import Chart, DataTable, figure
from quant_lens_engine.figures.frame import FigureSpec, framed, plain, vertical_line, x_axis
from quant_lens_engine.figures.spectra import key
from quant_lens_engine.figures.tokens import GROUND, Mode, transparent
from quant_lens_engine.schema import FLOAT_VARIANT, Activations, LayerActivation, RunResult, Variant, numbers
from quant_lens_engine.schema.layer_notes import signal_sentence


@dataclass(frozen=True)
class SignalToNoise:
    """One variant's layers."""

    variant: VariantLayers
    shown: list[str]
    total: int

    def layers(self) -> list[LayerActivation]:
        """Those that are drawn."""
        return [self.variant.layers[name] for name in self.shown]


def gather_sqnr(result: RunResult, variant: str = "") -> SignalToNoise | None:
    """The variant's layers; None for the float model, and where no layer has lost anything."""
    variants = [item for item in known_layers(result, variant) if item.style.name != FLOAT_VARIANT]
    if not variants or not any(
        layer.sqnr_db is not None or layer.isolated_sqnr_db is not None for layer in variants[0].layers.values()
    ):
        return None
    shown, total = layer_rows(variants)
    return SignalToNoise(variants[0], shown, total)


def draw_sqnr(data: SignalToNoise, mode: Mode) -> FigureSpec:
    """A dumbbell a layer: hollow by itself, filled with all before it."""
    style, layers = data.variant.style, data.layers()
    colour = style.fill[mode]
    joined = segments([(layer.sqnr_db, layer.isolated_sqnr_db) for layer in layers], 0.0)
    bar = {
        "type": "scatter", "mode": "lines", "x": joined[0], "y": joined[1], "hoverinfo": "skip", "showlegend": False,
        "line": {"color": transparent(colour, 0.45), "width": 3},
    }  # fmt: skip
    known = [value for layer in layers for value in (layer.sqnr_db, layer.isolated_sqnr_db) if value is not None]
    return framed(
        mode,
        [bar, _ends(data, mode, alone=True), _ends(data, mode, alone=False)],
        height=rows_height(data.shown),
        margin={"l": 60, "r": 20, "t": 28, "b": 42},
        showlegend=True,
        legend=key(mode),
        xaxis=x_axis(
            mode, "SQNR of the output against FP32  (dB; more is better)",
            range=padded(known, 0.05),
        ),
        yaxis=row_axis(mode, data.shown),
        shapes=[*row_lines(mode, data.shown), vertical_line(0, GROUND[mode].axis, 1)],
        uirevision="sqnr",
    )  # fmt: skip


def _ends(data: SignalToNoise, mode: Mode, *, alone: bool) -> dict[str, Any]:
    colour = data.variant.style.fill[mode]
    values = [layer.isolated_sqnr_db if alone else layer.sqnr_db for layer in data.layers()]
    ground = GROUND[mode].surface
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "this layer alone" if alone else "with all before it",
        "x": values,
        "y": list(range(len(data.shown))),
        "marker": {"symbol": "circle", "size": 9, "color": ground if alone else colour,
                   "line": {"width": 2, "color": colour}},
        "customdata": [_hover(layer, data.variant.style.name) for layer in data.layers()],
        "hovertemplate": "%{customdata}<extra></extra>",
    }  # fmt: skip


def _hover(layer: LayerActivation, variant: str) -> str:
    lines = [
        f"<b>{plain(layer.name)}</b>  {plain(variant)}",
        f"alone {numbers.number(layer.isolated_sqnr_db, digits=4)} dB",
        f"with all before it {numbers.number(layer.sqnr_db, digits=4)} dB",
    ]
    return "<br>".join([*lines, *([plain(layer.reason)] if layer.reason else [])])


def describe_sqnr(data: SignalToNoise) -> str:
    """Which layer loses most by itself, and what arrives at the end."""
    layers = Activations(layers=list(data.variant.layers.values()))
    said = signal_sentence(Variant(name=data.variant.style.name, activation_statistics=layers))
    return f"{data.variant.style.name}: {said}.{rows_left_out(len(data.shown), data.total)}"


def tabulate_sqnr(data: SignalToNoise) -> DataTable:
    """One row a layer."""
    columns = ("layer", "kind", "variant", "quantized", "sqnr_db_isolated", "sqnr_db_cumulative", "reason")
    rows = [
        (layer.name, layer.kind, data.variant.style.name, "yes" if layer.quantized else "no", layer.isolated_sqnr_db,
         layer.sqnr_db, layer.reason)
        for layer in data.variant.layers.values()
    ]  # fmt: skip
    return DataTable(columns, rows)


figure(Chart("activation-sqnr", "Signal to quantization noise by layer", gather_sqnr, draw_sqnr, describe_sqnr,
             tabulate_sqnr))  # fmt: skip
