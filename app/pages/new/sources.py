"""What a run starts from, a model and data: where they are chosen, and what stands there once they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import dash_mantine_components as dmc
from dash import html

from app.components import icon
from quant_lens_engine.schema import numbers
from worker.store import FileRecord

Kind = Literal["model", "data", "calibration"]

WORDS: dict[str, dict[str, str]] = {
    "model": {
        "drop": "Drop a checkpoint anywhere on this page",
        "formats": "safetensors, a .pt / .pth state dict, .pt2, ONNX, GGUF, a zip of a Hugging Face folder",
        "other": "data",
        "icon": "file-box",
        "stored": "already on the server",
        "again": "Choose another model",
        "here": "model files that are already on the server",
    },
    "data": {
        "drop": "Drop the data anywhere on this page",
        "formats": "npz, npy, safetensors or .pt with x and y; CSV, Parquet; text, JSON lines; "
        "a zip of images, sounds or a Hugging Face set",
        "other": "model",
        "icon": "database",
        "stored": "already on the server",
        "again": "Choose other data",
        "here": "data files that are already on the server",
    },
    "calibration": {
        "drop": "Take them from a file",
        "formats": "of any kind that data may have",
        "other": "data",
        "icon": "database",
        "stored": "or one on the server",
        "again": "Calibrate on rows of the data",
        "here": "files to calibrate on that are already on the server",
    },
}


def source_zone(
    kind: Kind, examples: Sequence[str], stored: Sequence[FileRecord], limit_bytes: int, *more: html.Div
) -> html.Div:
    """Where a file is dropped, or something that the server has is chosen; below that, ``more`` ways."""
    words = WORDS[kind]
    drop = html.Div(
        [
            icon("upload", 20),
            html.Div(
                [
                    html.Span([html.Strong(words["drop"]), " or "]),
                    html.Button(
                        "choose a file", type="button", className="ql-link", id=f"new-browse-{kind}",
                        **{"data-ql-browse": kind, "aria-label": f"choose a {kind} file"},
                    ),
                ]
            ),
            html.Div(f"{words['formats']} · up to {numbers.size(limit_bytes)}", className="ql-drop-formats"),
        ],
        className="ql-drop",
        **{"data-ql-drop": kind},
    )  # fmt: skip
    return html.Div(
        [drop, html.Div([_examples(kind, examples), _stored(kind, stored)], className="ql-source-else"), *more],
        id=f"new-zone-{kind}",
        className="ql-source",
    )


def calibration_zone(stored: Sequence[FileRecord]) -> html.Div:
    """The way to a file of calibration rows: chosen, dropped anywhere on the section, or one that the server has."""
    browse = html.Button(
        WORDS["calibration"]["drop"], type="button", className="ql-link", id="new-browse-calibration",
        **{"data-ql-browse": "calibration", "aria-label": "choose a calibration file"},
    )  # fmt: skip
    return html.Div([browse, _stored("calibration", stored)], id="new-zone-calibration", className="row-8")


def _examples(kind: Kind, names: Sequence[str]) -> html.Div:
    buttons = [
        html.Button(
            [icon("play", 12), name], type="button", className="ql-example",
            id={"type": "new-example", "kind": kind, "name": name},
        )
        for name in names
    ]  # fmt: skip
    return html.Div([html.Span("or an example", className="ql-label"), *buttons], hidden=not names, className="row-8")


def _stored(kind: Kind, files: Sequence[FileRecord]) -> html.Div:
    options = [
        {"value": file.sha256, "label": f"{file.filename} · {numbers.size(file.size_bytes)} · {file.sha256[:4]}"}
        for file in files
    ]
    chooser = dmc.Select(
        id=f"new-stored-{kind}",
        data=options,
        placeholder="choose",
        searchable=True,
        nothingFoundMessage="no such file",
        w=200 if kind == "calibration" else 300,
        attributes={"input": {"aria-label": WORDS[kind]["here"]}},
    )
    return html.Div(
        [html.Span(WORDS[kind]["stored"], className="ql-label"), chooser], hidden=not files, className="row-8"
    )


def source_card(kind: Kind, source: dict[str, Any], found: dict[str, Any] | None, facts: Any, status: Any) -> html.Div:
    """What is chosen: its name, what is known of it, and the way back.

    Args:
        kind: model or data.
        source: ``{"file": …}`` or ``{"example": …}`` as in a RunSpec.
        found: the file's record as JSON; None for an example.
        facts: a line of facts under the name.
        status: at the right, in a few words.
    """
    name, details = _name_and_details(source, found)
    actions = []
    if "file" in source:
        other = WORDS[kind]["other"]
        actions.append(
            html.Button(
                f"It is {'the data' if other == 'data' else 'a model'}", type="button", className="ql-link quiet",
                id={"type": "new-swap", "kind": kind}, title=f"Use this file as {other} instead",
            )
        )  # fmt: skip
    actions.append(
        html.Button(
            icon("x", 14, label=WORDS[kind]["again"]), type="button",
            className="ql-icon-button", id={"type": "new-remove", "kind": kind},
        )
    )  # fmt: skip
    head = [
        html.Span(name, className="ql-file-name", title=name),
        html.Span(details, className="ql-file-details"),
        html.Span(status, className="ql-file-status"),
        *actions,
    ]
    return html.Div(
        [
            icon(WORDS[kind]["icon"], 20, class_name="ql-file-icon"),
            html.Div([html.Div(head, className="ql-file-head"), facts], className="ql-file-body"),
        ],
        className="ql-file",
    )


def _name_and_details(source: dict[str, Any], found: dict[str, Any] | None) -> tuple[str, list[Any]]:
    if "example" in source:
        return source["example"], ["ships with Quant Lens"]
    if "path" in source:
        return source["path"].rstrip("/").rpartition("/")[2], ["on the server's allow-list"]
    sha256 = source["file"]
    short = html.Code(f"sha256 {sha256[:8]}…{sha256[-4:]}", title=sha256)
    size = (found or source).get("size_bytes") or source.get("size")
    name = (found or {}).get("filename") or source.get("filename") or "file"
    return name, [numbers.size(size), short] if size else [short]


def good(text: str) -> list[Any]:
    """A status that all is well."""
    return [icon("circle-check", 14), text]


def bad(text: str) -> list[Any]:
    """A status that something is wrong; what it is stands below."""
    return [icon("triangle-alert", 14), text]


def fact_line(facts: Sequence[tuple[str, str]]) -> html.Div:
    """``Format safetensors   Tensors 10``."""
    return html.Div(
        [html.Span([html.Span(label, className="ql-label"), " ", html.Span(value)]) for label, value in facts if value],
        className="ql-facts",
    )
