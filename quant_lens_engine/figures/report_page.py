"""The report: one HTML file with everything in it, Plotly included, that opens anywhere without a server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs

from quant_lens_engine.figures.chart import Drawing, draw_both
from quant_lens_engine.figures.lines import LANDSCAPES
from quant_lens_engine.figures.metrics import METRICS, Metric, variant_metrics
from quant_lens_engine.figures.tokens import FONT, GROUND, MODES, MONO, VERDICTS, Mode
from quant_lens_engine.figures.variant_style import variant_styles
from quant_lens_engine.schema import FLOAT_VARIANT, RunResult, Variant, numbers
from quant_lens_engine.schema.curvature_notes import curvature_notes
from quant_lens_engine.schema.layer_notes import reestimation_sentence
from quant_lens_engine.schema.making import layers_by_reason, makings, overlap_sentence, quantized_words, unmapped_note
from quant_lens_engine.schema.summary import verdict_sentence

COLUMNS = (
    "effective_bits", "size_bytes", "loss", "delta_loss", "accuracy", "delta_accuracy", "mean_iou", "f1", "lambda_max",
    "sharpness_ratio", "lambda_min", "trace", "effective_rank", "negative_eigenvalues", "relative_lambda_max",
    "relative_trace", "adaptive_rise", "basin_width", "top1_agreement",
)  # fmt: skip

SPECTRUM = ("density", "eigenvalues", "convergence", "layer-curvature")
"""The charts of the spectrum; one that has nothing to draw is left out."""

LAYERS = ("activation-sqnr", "activation-outliers", "activation-ranges", "batchnorm-drift")
"""The charts of layers, each for every variant beside the float model."""


def html_report(results: RunResult | Sequence[tuple[str, RunResult]], *, title: str = "Quant Lens report") -> str:
    """A self-contained report of a result, or of several with their names.

    Args:
        results: one result, or pairs of name and result.
        title: of the page; for a single result its heading too.

    Returns:
        HTML that loads nothing from anywhere and follows the reader's colour scheme.

    Example:
        >>> "<script src" in html_report(RunResult())
        False
    """
    named = [(title, results)] if isinstance(results, RunResult) else list(results)
    drawings: dict[str, Drawing] = {}
    sections = [_section(name, result, place, drawings) for place, (name, result) in enumerate(named)]
    figures = {place: {mode: getattr(drawing, mode) for mode in MODES} for place, drawing in drawings.items()}
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_sheet()}</style>",
            f"<script>{get_plotlyjs()}</script></head><body><main>",
            *sections,
            _meanings(),
            f"<script>const figures = {_script_json(figures)};{_SCRIPT}</script></main></body></html>",
        ]
    )


def _section(name: str, result: RunResult, place: int, drawings: dict[str, Drawing]) -> str:
    parts = [f"<h1>{escape(name)}</h1>", f'<p class="muted">{escape(_subtitle(result))}</p>', _verdicts(result)]
    if caution := overlap_sentence(result):
        parts.append(f'<p class="caution">! {escape(caution)}</p>')
    parts.append(f"<h2>Variants</h2>{_variant_table(result)}{_makings(result)}")
    charts = [("sharpness", "", draw_both("sharpness", result))]
    charts += [
        (f"lines-{kind}", f": {words}", draw_both("lines", result, landscape=kind))
        for kind, words in LANDSCAPES.items()
    ]
    charts += [(key, "", draw_both(key, result)) for key in SPECTRUM]
    charts += [
        (f"{key}-{number}", f": {variant.name}", draw_both(key, result, variant=variant.name))
        for number, variant in enumerate(result.variants)
        for key in LAYERS
        if variant.name != FLOAT_VARIANT
    ]
    for key, which, drawing in charts:
        if drawing.light is None:
            continue
        drawings[f"{key}-{place}"] = drawing
        words = f"<h2>{escape(drawing.title + which)}</h2><p class='muted'>{escape(drawing.sentence)}</p>"
        parts.append(f'{words}<div class="chart" id="{key}-{place}"></div>')
    parts.append(_reestimations(result))
    parts.append(_curvature_notes(result) + _failures(result) + f"<h2>Data and settings</h2>{_settings(result)}")
    return "<section>" + "".join(parts) + "</section>"


def _subtitle(result: RunResult) -> str:
    model, data = result.model, result.data
    facts = [
        model.architecture or model.format or "",
        f"{numbers.amount(model.parameters)} parameters" if model.parameters else "",
        f"{numbers.count(data.samples)} samples" if data.samples else "",
        f"calibrated on {numbers.count(data.calibration_samples)} rows" if data.calibration_samples else "",
        f"seed {result.seed}",
        f"engine {result.engine_version}" if result.engine_version else "",
    ]
    return " · ".join(fact for fact in facts if fact)


def _verdicts(result: RunResult) -> str:
    said = verdict_sentence(result)
    lead = f"<p class='lead'><b>{escape(said.lead)}</b> {escape(said.rest)}</p>" if said.lead else ""
    items = []
    for comparison in result.comparisons:
        if comparison.verdict is None:
            continue
        level = comparison.verdict.level
        reasons = "; ".join([*comparison.verdict.reasons, *comparison.verdict.signals])
        badge = f'<b class="verdict {escape(level)}">{_SIGNS[level]} {escape(level)}</b>'
        items.append(f"<li><b>{escape(comparison.variant)}</b> {badge} {escape(reasons)}</li>")
    return f"{lead}<ul class='verdicts'>{''.join(items)}</ul>" if items else lead


def _variant_table(result: RunResult) -> str:
    metrics = [
        metric.of(result.task)
        for metric in variant_metrics(*COLUMNS)
        if any(metric.read(result, variant).value is not None for variant in result.variants)
    ]
    styles = variant_styles(result.variants)
    head = "".join(f'<th class="num" title="{escape(metric.meaning)}">{escape(metric.head)}</th>' for metric in metrics)
    rows = []
    for variant in result.variants:
        fill = styles[variant.name].fill
        swatch = f'<i class="swatch" style="--light:{fill["light"]};--dark:{fill["dark"]}"></i>'
        cells = "".join(_cell(metric, result, variant) for metric in metrics)
        rows.append(f"<tr><td>{swatch} {escape(variant.name)}{_own_kernels(variant)}</td>{cells}</tr>")
    body = "".join(rows)
    return (
        f'<div class="frame"><table><thead><tr><th>Variant</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _makings(result: RunResult) -> str:
    """How each variant was made, part by part, with notes and static activation ranges."""
    parts = []
    for making in makings(result):
        variant = making.variant
        rows: list[tuple[str, str]] = list(making.parts)
        rows += [("quantized", words)] if (words := quantized_words(making)) else []
        rows += [
            (f"left in float: {reason}", ", ".join(names))
            for reason, names in layers_by_reason(variant.skipped_layers).items()
        ]
        rows += [("note", note) for note in variant.notes]
        rows += [
            (f"range of {item.name}", f"{numbers.number(item.low)} to {numbers.number(item.high)} as {item.format}")
            for item in variant.activations
            if item.low is not None
        ]
        if rows:
            parts.append(f"<h3>{escape(variant.name)}</h3>{_pairs(rows, wrap=True)}")
    body = "".join(parts)
    return f"<details><summary>How each variant was made</summary>{body}</details>" if parts else ""


def _own_kernels(variant: Variant) -> str:
    """A custom model says that its loss is its own, and where its curvature was taken, if it was."""
    own = variant.evaluation is not None and variant.evaluation.forward == "own"
    if own and variant.unmapped is not None:
        meaning = f"loss and accuracy by the model's own kernels; {unmapped_note(variant.unmapped)}"
        return f' <small title="{escape(meaning, quote=True)}">own kernels; no curvature</small>'
    meaning = "loss and accuracy by the model's own kernels; curvature and lines at its dequantized weights"
    return f' <small title="{meaning}">own kernels; curvature at dequantized weights</small>' if own else ""


def _cell(metric: Metric, result: RunResult, variant: Variant) -> str:
    measurement = metric.read(result, variant)
    shown, spread = metric.written(measurement)
    error = f" <small>± {escape(spread)}</small>" if spread else ""
    note = f" <small>{escape(measurement.note)}</small>" if measurement.note and measurement.value is not None else ""
    return f'<td class="num" title="{escape(metric.exactly(measurement))}">{escape(shown)}{error}{note}</td>'


def _curvature_notes(result: RunResult) -> str:
    """How each curvature was taken, where it was not as usual."""
    rows = [
        (variant.name, "; ".join(notes))
        for variant in result.variants
        if variant.curvature is not None and (notes := curvature_notes(variant.curvature))
    ]
    return f"<h2>How curvature was taken</h2>{_pairs(rows, wrap=True)}" if rows else ""


def _reestimations(result: RunResult) -> str:
    """What new running statistics do to each variant."""
    rows = [(item.name, words) for item in result.variants if (words := reestimation_sentence(item, result.task))]
    return f"<h2>Re-estimating BatchNorm</h2>{_pairs(rows, wrap=True)}" if rows else ""


def _failures(result: RunResult) -> str:
    rows = [
        (f"{item.stage}{f' · {item.variant}' if item.variant else ''}", f"{item.message} ({item.code})")
        for item in result.failures
    ]
    return f"<h2>Without a result</h2>{_pairs(rows)}" if rows else ""


def _settings(result: RunResult) -> str:
    groups = {"model": result.model.model_dump(), "data": result.data.model_dump(), "execution": result.execution}
    rows = [(f"{group}.{key}", value) for group, values in groups.items() for key, value in values.items()]
    rows += [("task", result.task), ("seed", result.seed), ("engine", result.engine_version)]
    return _pairs((key, value) for key, value in rows if value not in (None, "", {}))


def _meanings() -> str:
    return (
        "<section><h2>How to read the numbers</h2>"
        + _pairs((METRICS[key].label, METRICS[key].meaning) for key in COLUMNS)
        + "</section>"
    )


def _pairs(rows: Iterable[tuple[Any, Any]], *, wrap: bool = False) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(str(key))}</code></td><td>{escape(str(value))}</td></tr>" for key, value in rows
    )
    return f'<div class="frame"><table class="{"wrap" if wrap else ""}">{cells}</table></div>'


def _script_json(value: Any) -> str:
    # A "</script>" or "<!--" inside a string would end the script, or hide what follows.
    return json.dumps(value).replace("<", "\\u003c")


def _sheet() -> str:
    def variables(mode: Mode) -> str:
        tokens = GROUND[mode].css() | {f"--{level}": tints[mode].text for level, tints in VERDICTS.items()}
        return f"color-scheme:{mode};" + ";".join(f"{name}:{value}" for name, value in tokens.items())

    dark = (
        "@media (prefers-color-scheme:dark){:root{" + variables("dark") + "}.swatch{background:var(--dark)!important}}"
    )
    return f":root{{{variables('light')}}}{dark}{_SHEET.replace('FONT', FONT).replace('MONO', MONO)}"


_SIGNS = {"safe": "✓", "caution": "!", "degraded": "↓", "collapsed": "×"}

_SHEET = """
body{margin:0;background:var(--bg);color:var(--text);font:13px/20px FONT}
main{max-width:1240px;margin:0 auto;padding:24px}
section{margin-bottom:32px}
h1{font-size:20px;line-height:28px;margin:0}
h2{font-size:14px;margin:24px 0 4px}
p{margin:0 0 8px}
h3{font-size:12px;margin:12px 0 4px;font-family:MONO}
summary{margin:8px 0;color:var(--second);cursor:pointer}
.wrap td{white-space:normal;overflow-wrap:anywhere}
.wrap td:first-child{width:30%}
.caution{color:var(--caution)}
.muted,small{color:var(--muted)}
.frame{overflow-x:auto;border:1px solid var(--border);border-radius:8px;background:var(--surface)}
table{border-collapse:collapse;width:100%}
th{color:var(--muted);font-weight:500;font-size:11.5px;text-align:left}
th,td{padding:6px 12px;border-bottom:1px solid var(--grid);white-space:nowrap}
tr:last-child td{border-bottom:0}
.num{text-align:right;font-variant-numeric:tabular-nums}
code{font-family:MONO;font-size:12px}
.swatch{display:inline-block;width:18px;height:3px;vertical-align:middle;background:var(--light)}
.chart{min-height:340px;border:1px solid var(--border);border-radius:8px;background:var(--surface);padding:8px}
.lead{margin:16px 0 4px;font-size:18px;line-height:26px}
.verdicts{padding:0;list-style:none}
.verdict.safe{color:var(--safe)}
.verdict.caution{color:var(--caution)}
.verdict.degraded{color:var(--degraded)}
.verdict.collapsed{color:var(--collapsed)}
"""

_SCRIPT = """
const scheme = matchMedia("(prefers-color-scheme: dark)");
const draw = () => Object.entries(figures).forEach(([place, figure]) => {
  const { data, layout } = figure[scheme.matches ? "dark" : "light"];
  const height = Math.max(340, layout.height || 0);
  Plotly.react(place, data, { ...layout, height }, { displayModeBar: false, responsive: true });
});
scheme.addEventListener("change", draw);
draw();
"""
