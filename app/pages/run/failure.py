"""A run that failed: what happened, to which input, and the ways on from here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html

from app.components import card, icon, table_card, verdict_mark
from app.components.sentence import as_sentence
from app.pages.new.architectures import KIND_CLASSES, KIND_WORDS, how_it_fits, shape_text
from app.pages.run.header import run_act
from quant_lens_engine.schema import ArchitectureMatch, ErrorBody, RunRecord, numbers

SHOWN_DIFFERENCES = 12
MISMATCHES = {"architecture_mismatch", "no_architecture", "ambiguous_architecture"}
STATE_MESSAGES = {
    "LOST": ErrorBody(
        code="run_lost",
        message="The workers of this run fell silent again and again",
        hint="Retry: stages that are finished are not computed again. The worker's log says why it died.",
    ),
}


def failure_view(record: RunRecord, inspection: Mapping[str, Any] | None) -> html.Div | None:
    """The failed state; None for a run that has not failed.

    Args:
        record: the run.
        inspection: of its uploaded checkpoint, where it has one.
    """
    error = record.error or STATE_MESSAGES.get(record.state)
    if error is None or record.state not in {"FAILED", "LOST"}:
        return None
    matches = _matches(error, inspection)
    fitting = [match.architecture for match in matches if match.fits] or list(error.details.get("fitting", []))
    asked = record.spec.get("model", {}).get("architecture", "auto")
    parts: list[Any] = [_what_happened(record, error, fitting)]
    if error.code in MISMATCHES and matches:
        shown = next((match for match in matches if match.architecture == asked), matches[0])
        left = _differences(shown) if not shown.fits else None
        right = html.Div([_by_match(matches, asked), _from_api(error)])
        parts.append(html.Div([part for part in (left, right) if part is not None], className="ql-failure-columns"))
    else:
        parts.append(_from_api(error))
    return html.Div(parts, className="ql-failure")


def _what_happened(record: RunRecord, error: ErrorBody, fitting: Sequence[str]) -> html.Section:
    failed = next((stage for stage in record.progress.stages if stage.state == "failed"), None)
    where = []
    if failed is not None:
        name = f"{failed.stage} · {failed.variant}" if failed.variant else failed.stage
        after = f" after {numbers.duration(failed.elapsed_s)}" if failed.elapsed_s else ""
        where = ["Stage ", html.Code(name), f" stopped{after}. "]
    actions: list[Any] = [retry_as(name, primary=index == 0) for index, name in enumerate(fitting[:2])]
    if not fitting:
        actions.append(
            html.Button([icon("rotate-ccw", 15), "Retry"], **run_act("retry"), type="button",
                        className="button")
        )  # fmt: skip
    actions += [
        dcc.Link([icon("upload", 15), "Change and run"], href=f"/new?from={record.id}", className="button"),
        html.Button(
            [icon("copy", 15), "Copy error"], type="button", className="button quiet", **{"data-copy": _as_json(error)}
        ),
    ]
    words = [
        html.P(as_sentence(error.message), className="verdict-sentence"),
        html.P([*where, as_sentence(error.hint)], className="verdict-evidence"),
        html.Div(actions, className="button-row"),
    ]
    row = html.Div([verdict_mark("collapsed"), html.Div(words)], className="verdict-row")
    return card(row, class_name="verdict-card collapsed")


def retry_as(architecture: str, *, primary: bool = False) -> html.Button:
    """A new run of the same spec with another architecture."""
    return html.Button(
        [icon("rotate-ccw", 15), f"Retry as {architecture}"],
        **run_act("retry-as", architecture),
        type="button",
        className="button primary" if primary else "button",
    )


def _matches(error: ErrorBody, inspection: Mapping[str, Any] | None) -> list[ArchitectureMatch]:
    """Every architecture that was compared, best first: the file's inspection, or what the error itself carries."""
    if inspection and inspection.get("architectures"):
        return [ArchitectureMatch.model_validate(item) for item in inspection["architectures"]]
    found = error.details.get("candidates") or ([error.details["match"]] if error.details.get("match") else [])
    return [ArchitectureMatch.model_validate(item) for item in found]


def _differences(match: ArchitectureMatch) -> html.Section:
    counts = {"missing": match.missing, "unexpected": match.unexpected, "shape": match.shape_differs}
    total = sum(counts.values())
    head = html.Thead(
        html.Tr([html.Th("Key"), html.Th("In the file"), html.Th(f"{match.architecture} wants"), html.Th("")])
    )
    rows = [
        html.Tr(
            [
                html.Td(html.Code(item.key)),
                html.Td(html.Code(shape_text(item.found))),
                html.Td(html.Code(shape_text(item.wanted))),
                html.Td(KIND_WORDS[item.kind], className=KIND_CLASSES[item.kind]),
            ]
        )
        for item in match.differences
    ]
    body = [html.Table([head, html.Tbody(rows[:SHOWN_DIFFERENCES])], className="data-table wrap")]
    if len(rows) > SHOWN_DIFFERENCES:
        more = html.Table(html.Tbody(rows[SHOWN_DIFFERENCES:]), className="data-table wrap")
        words = f"Show all {len(rows)}" if len(rows) == total else f"Show {len(rows)} of {total}"
        body.append(
            html.Details([html.Summary([icon("chevron-right", 14), words]), more], className="ql-details ql-card-foot")
        )
    told = ", ".join(f"{count} {KIND_WORDS[kind]}" for kind, count in counts.items() if count)
    sentence = f"{total} of {max(match.wanted, match.found)} keys differ from {match.architecture}: {told}."
    return table_card(html.Div(body), title="Key differences", sentence=sentence)


def _by_match(matches: Sequence[ArchitectureMatch], asked: str) -> html.Section:
    head = html.Thead(
        html.Tr([html.Th("Architecture"), html.Th("Keys that match", className="num"), html.Th("Shapes"), html.Th("")])
    )
    rows = []
    for match in matches[:8]:
        whole = max(match.wanted, match.found) or 1
        name = f"{match.architecture} (asked for)" if match.architecture == asked else match.architecture
        meter = html.Span(html.Span(style={"width": f"{100 * match.matched / whole:.0f}%"}), className="ql-match")
        rows.append(
            html.Tr(
                [
                    html.Td(html.Strong(name) if match.fits else name),
                    html.Td([f"{match.matched} / {whole} ", meter], className="num"),
                    html.Td(match.problem or how_it_fits(match)),
                    html.Td(retry_as(match.architecture) if match.fits else ""),
                ]
            )
        )
    sentence = "Keys and shapes are compared from the file's header; no code in the file is run."
    return table_card(
        html.Table([head, html.Tbody(rows)], className="data-table wrap"),
        title="Architectures by match",
        sentence=sentence,
    )


def _from_api(error: ErrorBody) -> html.Section:
    text = _as_json(error)
    copy = html.Button(icon("copy", 15), type="button", className="ql-icon-button", title="Copy",
                       **{"data-copy": text, "aria-label": "Copy the error"})  # fmt: skip
    shown = text if len(text) < 4000 else text[:4000] + "\n…"
    return card(html.Pre(shown, className="ql-json", tabIndex=0), title="The same from the API", actions=copy)


def _as_json(error: ErrorBody) -> str:
    text = json.dumps({"error": error.model_dump(mode="json")}, indent=2, ensure_ascii=False)
    return re.sub(r"\[[\d\s,]*\]", lambda shape: re.sub(r"\s+", "", shape[0]).replace(",", ", "), text)
