"""How each variant was made: what its recipe says, what algorithms noted, which layers stayed in float, which ranges
activations have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import html

from app.components import caution, icon, variant_name
from quant_lens_engine.figures import VariantStyle
from quant_lens_engine.schema import Activation, AlgorithmFacts, RunResult, SkippedLayer, Variant, numbers
from quant_lens_engine.schema.making import (
    Making,
    layers_by_reason,
    makings,
    overlap_sentence,
    quantized_words,
    shared_skips,
)

SHOWN_LAYERS = 12


def overlap_note(result: RunResult) -> html.P | None:
    """A sentence to heed where calibration looked at rows that are measured too."""
    return caution(overlap_sentence(result))


def making_details(
    result: RunResult, styles: Mapping[str, VariantStyle], algorithms: Sequence[AlgorithmFacts] = ()
) -> html.Details | None:
    """The disclosure under the table of variants; None before anything is made."""
    found = makings(result, algorithms)
    if not any(item.variant.evaluation for item in found):
        return None
    shared = shared_skips(result)
    body: list[Any] = [_variant(item, styles[item.variant.name], shared) for item in found]
    if shared:
        body.append(_block(html.Span("Every variant", className="muted"), [_skipped(shared)]))
    summary = html.Summary([icon("chevron-right", 14), "How each variant was made", _in_short(found, shared)])
    return html.Details([summary, html.Div(body, className="ql-making")], className="ql-details ql-card-foot")


def _in_short(found: Sequence[Making], shared: Sequence[SkippedLayer]) -> html.Span:
    """What there is to read, before the disclosure is opened."""
    algorithms = sum(bool(item.variant.algorithms) for item in found)
    skipped = max((len(item.variant.skipped_layers) for item in found), default=0) or len(shared)
    notes = sum(len(item.variant.notes) for item in found)
    parts = [
        f"{algorithms} with algorithms" if algorithms else "",
        f"{skipped} layer{'s' if skipped > 1 else ''} in float" if skipped else "",
        f"{notes} note{'s' if notes > 1 else ''}" if notes else "",
    ]
    return html.Span(" · ".join(part for part in parts if part), className="muted")


def _variant(item: Making, style: VariantStyle, shared: Sequence[SkippedLayer]) -> html.Div:
    variant = item.variant
    rows: list[Any] = [_row(part, words) for part, words in item.parts]
    if quantized := quantized_words(item):
        rows.append(_row("quantized", quantized))
    own = [layer for layer in variant.skipped_layers if layer not in shared]
    if own:
        rows.append(_skipped(own))
    if variant.notes:
        rows.append(_row("notes", html.Ul([html.Li(note) for note in variant.notes])))
    if variant.activations:
        rows.append(_row("activation ranges", _ranges(variant)))
    return _block(variant_name(style), rows)


def _block(name: Any, rows: Sequence[Any]) -> html.Div:
    return html.Div([html.Div(name, className="ql-making-name"), html.Dl(list(rows))], className="ql-making-variant")


def _row(part: str, words: Any) -> html.Div:
    return html.Div([html.Dt(part), html.Dd(words)])


def _skipped(layers: Sequence[SkippedLayer]) -> html.Div:
    """Names by reason; a long list is cut, and stands in the title as a whole."""
    items = []
    for reason, names in layers_by_reason(layers).items():
        more = f" and {len(names) - SHOWN_LAYERS} more" if len(names) > SHOWN_LAYERS else ""
        shown = html.Code(", ".join(names[:SHOWN_LAYERS]))
        items.append(html.Li([shown, more, html.Span(f" {reason}", className="muted")], title=", ".join(names)))
    return _row("left in float", html.Ul(items))


def _ranges(variant: Variant) -> Any:
    """A table; dynamic ranges, which come from the values, are one sentence."""
    static = [item for item in variant.activations if item.low is not None]
    dynamic = len(variant.activations) - len(static)
    said = f"{numbers.count(dynamic)} from the values themselves, at each pass" if dynamic else ""
    if not static:
        return said
    head = html.Thead(html.Tr([html.Th("Input of"), html.Th("Format"), _number_head("Low"), _number_head("High")]))
    table = html.Table([head, html.Tbody([_range(item) for item in static])], className="data-table ql-ranges")
    frame = html.Div(table, className="ql-ranges-frame", tabIndex=0, role="region",
                     **{"aria-label": f"Activation ranges of {variant.name}"})  # fmt: skip
    return [frame, html.Div(said, className="ql-hint")] if said else frame


def _number_head(text: str) -> html.Th:
    return html.Th(text, className="num")


def _range(item: Activation) -> html.Tr:
    cells = [html.Td(html.Code(item.name)), html.Td(html.Code(item.format))]
    cells += [
        html.Td(numbers.number(value), className="num", title=numbers.exact(value)) for value in (item.low, item.high)
    ]
    return html.Tr(cells)
