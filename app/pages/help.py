"""How to read the numbers: every metric as it declares itself, the charts, the verdict's levels."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from app.components.badge import verdict_badge
from app.components.card import card, table_card
from app.components.variant_name import variant_swatch
from app.routing import Page, Visit
from quant_lens_engine.diagnosis.verdict import LEVEL_RULES, LEVELS, SIGNAL_RULES, LevelRule
from quant_lens_engine.figures import METRICS, scheme_styles
from quant_lens_engine.schema import numbers, parse_recipe

_BETTER = {"lower": "lower", "higher": "higher", None: "neither"}

_TERMS = (
    (
        "Deployed and smooth",
        "Two landscapes. Deployed, L(Q(w + αd)), quantizes anew at every α: the staircase that runs on the device. "
        "Smooth, L(Q(w) + αd), stands at the quantized weights and moves in float: the one that λ describes. "
        "No sentence on these pages mixes the two.",
    ),
    (
        "Directions",
        "Random, drawn once and shared by every variant of a run, filter-normalised: each filter's step is as long as "
        "the filter itself (‖d‖ = ‖θ‖), so lines of different networks can be held side by side. α = 1 is one such "
        "step. Several directions give a mean and a band from their lowest to their highest loss.",
    ),
    (
        "Hessian of a variant",
        "Second derivatives of the loss at the dequantized weights Q(w), over the whole sample. λmax is its largest "
        "eigenvalue, λmin its smallest; Tr H is the sum of all of them.",
    ),
    (
        "±",
        "Of λ in a table: the farther end of its interval, so how exactly λ of this sample is known. On the bars: "
        "the spread over eight shards of the sample, so how much λ owes to the rows. Of loss, accuracy and their "
        "differences: the standard error over the rows; differences are paired, row by row. Of the trace: over its "
        "probes.",
    ),
    (
        "Not converged",
        "Lanczos stopped at its cap before the tolerance. The number is the best found so far; for λmax a lower bound.",
    ),
    (
        "Effective bits",
        "Stored bits of the quantized weights together with their scales and zero points, per weight. int4 with one "
        "scale for 128 weights is 4.125 bits.",
    ),
    (
        "Recipe",
        "A scheme, the algorithms that bring the network into it, and the layers that it is for: "
        "int4+gptq+skip:head. Without an algorithm, weights go to the nearest code (RTN).",
    ),
    (
        "Static and dynamic",
        "Activation ranges. Static: one for every row, chosen by an observer on calibration rows; what lies beyond is "
        "clipped. Dynamic: from the values themselves at each pass, one scale a token.",
    ),
    (
        "Calibration rows, overlap",
        "Rows that static ranges and algorithms look at; they are not measured. Where fewer than 32 others are left, "
        "measured rows are looked at too: the numbers then come out better than they would on new rows.",
    ),
    (
        "SQNR of a layer's output",
        "10·log₁₀ of Σy² / Σ(y − ŷ)² in dB, with the float model's output y and the variant's ŷ on the same rows. 20 "
        "dB: the error is a tenth of the signal. Alone: only this layer is quantized, its input is the float model's. "
        "With all before it: the network as it is deployed, so errors of earlier layers have arrived.",
    ),
    (
        "Outliers, kurtosis, channels",
        "Outliers: the share of values further than 6 standard deviations of FP32's output from its mean, the same "
        "ruler for every variant. Kurtosis: the mean of ((y − μ) / σ)⁴; 3 for a normal distribution. Channels: the "
        "widest channel's range over the median channel's; where it is large, one scale a tensor wastes codes on "
        "most channels.",
    ),
    (
        "Percentiles of activations",
        "0.1 % and 99.9 % of a layer's values lie below. From a histogram of 2048 bins over FP32's range, so exact to "
        "the width of one bin.",
    ),
    (
        "BatchNorm drift",
        "BatchNorm stores a running mean and variance from training. Quantized weights give its input others: the "
        "shift of the mean is in running standard deviations, the ratio of the variances is 1 where they agree.",
    ),
    (
        "Re-estimating BatchNorm",
        "Running statistics are replaced by the data's, layer by layer in the order of running, so that each sees what "
        "those before it now give; weights stay. What the loss gains can be had without any training. On rows that are "
        "also measured the gain comes out too large.",
    ),
    (
        "Baseline within its error",
        "A ratio is left out where λmax(FP32) is within its own uncertainty of zero: it would be a number without "
        "meaning.",
    ),
)


def help_layout(_: Visit) -> Component:
    """The page."""
    return html.Div(
        [
            html.Div(html.H1("How to read the numbers"), className="page-head"),
            table_card(
                _metrics(),
                title="Numbers of a variant",
                sentence="Three significant digits; every digit stands in the title when you hover.",
            ),
            html.Div(
                [
                    table_card(
                        _levels(),
                        title="Verdict",
                        sentence="The first rule that applies sets the level; what is measured judges, never λ.",
                    ),
                    table_card(
                        _signals(), title="Signals", sentence="Named beside a verdict. None of them sets its level."
                    ),
                ],
                id="verdict",
            ),
            card(
                html.Dl(
                    [part for term, words in _TERMS for part in (html.Dt(term), html.Dd(words))], className="terms"
                ),
                title="Words",
            ),
            card(_colours(), title="Colours", sentence="Colour and dash say the bits, everywhere the same. A second "
                 "scheme of one class has a shade and a dash of its own. FP32 is blue and solid."),
        ],
        className="page help-page",
    )  # fmt: skip


def _metrics() -> html.Table:
    rows = [
        html.Tr(
            [
                html.Td(html.B(metric.label), className="unit", id=f"metric-{metric.key}"),
                html.Td(metric.shown_unit or metric.unit or "loss units", className="unit"),
                html.Td(_BETTER[metric.direction]),
                html.Td(metric.meaning + (f" ± is the {metric.error_meaning}." if metric.error_meaning else "")),
            ]
        )
        for metric in METRICS.values()
    ]
    head = html.Thead(html.Tr([html.Th("Number"), html.Th("Unit"), html.Th("Better"), html.Th("Meaning")]))
    return html.Table([head, html.Tbody(rows)], className="data-table wrap")


def _levels() -> html.Table:
    head = [html.Th("Judged by"), *(html.Th(verdict_badge(level)) for level in LEVELS), html.Th("Why these limits")]
    rows = [
        html.Tr(
            [
                html.Td([rule.measure, html.Br(), html.Span(rule.unit, className="muted")]),
                *(html.Td(limits, className="unit") for limits in _limits(rule)),
                html.Td(rule.evidence),
            ]
        )
        for rule in LEVEL_RULES.values()
    ]
    return html.Table([html.Thead(html.Tr(head)), html.Tbody(rows)], className="data-table wrap")


def _limits(rule: LevelRule) -> list[str]:
    low, middle, high = (f"{value:g}" for value in rule.thresholds)
    return [f"under {low}", f"{low} to {middle}", f"{middle} to {high}", f"from {high}"]


def _signals() -> html.Table:
    rows = [
        html.Tr([html.Td(f"{rule.measure} {numbers.number(rule.threshold, digits=2)}"), html.Td(rule.evidence)])
        for rule in SIGNAL_RULES.values()
    ]
    head = html.Thead(html.Tr([html.Th("Signal"), html.Th("Why it is none but a signal")]))
    return html.Table([head, html.Tbody(rows)], className="data-table wrap")


def _colours() -> html.Div:
    names = ["int16", "int8", "int8-tensor", "w8a8", "fp8-e4m3", "int6", "int4", "int4+gptq", "nvfp4", "int3", "int2"]
    styles = scheme_styles([parse_recipe(name) for name in names])
    swatches = [html.Span([variant_swatch(style), style.name], className="variant-name") for style in styles.values()]
    return html.Div(swatches, className="swatches")


PAGE = Page(name="help", path="/help", title="How to read the numbers", layout=help_layout, order=90)
