"""What the data looks like: the first samples, how the labels are spread, and what the float model makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import html

from app.components import icon
from app.components.sentence import as_sentence
from app.pages.new.pixels import png_data_url
from app.pages.new.tasks import USUAL
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.schema import DataInspection, Transform, numbers

SHOWN_SAMPLES = 12
PICTURE_PX = 40


def data_facts(inspection: DataInspection) -> list[tuple[str, str]]:
    """The line under the file's name."""
    shape = " × ".join(map(str, inspection.x_shape[1:])) if len(inspection.x_shape) > 1 else ""
    low, high = inspection.x_min, inspection.x_max
    spread = "" if low is None or high is None else f"{numbers.number(low)} to {numbers.number(high)}"
    return [
        ("Samples", numbers.count(inspection.samples)),
        ("Shape", shape),
        ("Values", f"{inspection.x_dtype}, {spread}" if spread else inspection.x_dtype),
        ("Classes", str(inspection.classes) if inspection.classes else ""),
        ("Labels", label_spread(inspection.label_counts)),
    ]


def label_spread(counts: Mapping[str, int]) -> str:
    """How evenly the labels are spread: ``95 to 105 a class``."""
    if not counts:
        return ""
    fewest, most = min(counts.values()), max(counts.values())
    return f"{numbers.count(fewest)} a class" if fewest == most else f"{fewest:,} to {most:,} a class".replace(",", " ")


def preview(inspection: DataInspection, transform: Transform) -> list[Any]:
    """The first samples as pictures, and what the transform makes of their values; texts as they are."""
    if inspection.preview_texts:
        texts = [html.Div(text, className="ql-hint") for text in inspection.preview_texts]
        return [html.Div("First texts", className="ql-label"), *texts]
    urls = [png_data_url(sample) for sample in inspection.preview[:SHOWN_SAMPLES]]
    labels = [str(label) for label in inspection.preview_labels[:SHOWN_SAMPLES]]
    labels += [""] * (len(urls) - len(labels))
    pictures = [
        html.Figure(
            [
                html.Img(src=url, width=PICTURE_PX, height=PICTURE_PX, alt=f"sample {index}, label {label or '?'}"),
                html.Figcaption(label),
            ]
        )
        for index, (url, label) in enumerate(zip(urls, labels, strict=True))
        if url is not None
    ]  # fmt: skip
    said = range_after(inspection, transform)
    title = html.Div(
        ["First samples", html.Span(f" · after the transform {said}" if said else "", className="muted")],
        className="ql-label",
    )
    if not pictures:
        note = f"Rows of {' × '.join(map(str, inspection.x_shape[1:])) or 'numbers'}; not pictures."
        return [title, html.Div(note, className="ql-hint")]
    return [title, html.Div(pictures, className="ql-pictures")]


def range_after(inspection: DataInspection, transform: Transform) -> str:
    """``−0.42 to 2.82``: the file's value range after scale, mean and std; ``""`` where it is not known."""
    if inspection.x_min is None or inspection.x_max is None:
        return ""
    mean, std = transform.mean or (0.0,), transform.std or (1.0,)
    channels = max(len(mean), len(std))
    pairs = [(mean[i % len(mean)], std[i % len(std)]) for i in range(channels)]
    ends = [
        (value * transform.scale - centre) / spread
        for value in (inspection.x_min, inspection.x_max)
        for centre, spread in pairs
    ]
    return f"{numbers.number(min(ends))} to {numbers.number(max(ends))}"


def baseline_view(check: Mapping[str, Any] | None, task: str = USUAL) -> Any:
    """The float model on some rows: its accuracy says whether labels and transform are right.

    Args:
        check: the check's record as JSON; None while something is still to be chosen.
        task: what the loss is of: it has a unit.
    """
    if check is None:
        return html.Div("Needs a model and data.", className="ql-hint")
    if check["state"] == "failed":
        error = check.get("error") or {}
        return html.Div(
            [
                html.Div([icon("triangle-alert", 14), html.Span(as_sentence(error.get("message", "It failed")))],
                         className="ql-said bad"),
                html.Div(as_sentence(error.get("hint", "")), className="ql-hint"),
            ]
        )  # fmt: skip
    if check["state"] != "done":
        return html.Div([html.Span(className="ql-spinner"), "the float model runs on 256 rows"], className="ql-hint")
    return _baseline(check["result"], loss_unit(task))


def _baseline(result: Mapping[str, Any], unit: str) -> html.Div:
    accuracy, error = result.get("accuracy"), result.get("accuracy_standard_error")
    if accuracy is not None:
        shown, spread = numbers.measured(100 * accuracy, None if error is None else 100 * error)
        value = [html.Span(shown, className="ql-baseline-value"), f" ± {spread}" if spread else "", " % accuracy"]
    else:
        shown, spread = numbers.measured(result.get("loss"), result.get("loss_standard_error"))
        value = [
            html.Span(shown, className="ql-baseline-value"),
            f" ± {spread}" if spread else "",
            " nats loss" if unit == "nats" else " loss",
        ]
    agree = bool(result.get("agrees", True))
    mark = icon("circle-check" if agree else "triangle-alert", 14)
    return html.Div(
        [
            html.Div([*value, f" on {numbers.count(result.get('samples'))} rows"], className="ql-baseline-line"),
            html.Div([mark, html.Span(result.get("message", ""))], className=f"ql-said {'good' if agree else 'bad'}"),
            html.Div(result.get("hint", ""), className="ql-hint"),
        ]
    )
