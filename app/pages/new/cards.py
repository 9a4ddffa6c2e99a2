"""From what is known of model and data to the inside of their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dash import html

from app.components import icon
from app.components.sentence import as_sentence
from app.pages.new.architectures import best_architecture, how_it_fits
from app.pages.new.choosing import Source, checkpoint_of, data_of, inspection_of, is_waiting
from app.pages.new.data_view import data_facts
from app.pages.new.sources import Kind, bad, fact_line, good, source_card
from quant_lens_engine.schema import CheckpointInspection, numbers


def model_card(source: Source, found: Mapping[str, Any] | None) -> html.Div:
    """The chosen model: facts, or what is wrong with it."""
    checkpoint = checkpoint_of(found)
    if checkpoint is None:
        return _not_understood("model", source, found)
    facts = fact_line(
        [
            ("Format", " in ".join(filter(None, (checkpoint.format, checkpoint.container)))),
            ("Tensors", numbers.count((found or {})["inspection"].get("tensor_count"))),
            ("Parameters", numbers.count(checkpoint.parameters)),
        ]
    )
    notes = [html.Div(note, className="ql-hint") for note in checkpoint.notes]
    if checkpoint.non_finite:
        names = ", ".join(checkpoint.non_finite[:5])
        more = f" and {len(checkpoint.non_finite) - 5} more" if len(checkpoint.non_finite) > 5 else ""
        notes.append(_wrong(f"Not every weight is a finite number: {names}{more}", "A run on this file would fail."))
        return source_card("model", source, dict(found or {}), html.Div([facts, *notes]), bad("not finite"))
    return source_card("model", source, dict(found or {}), html.Div([facts, *notes]), good("checked, no code was run"))


def data_card(source: Source, found: Mapping[str, Any] | None) -> html.Div:
    """The chosen data: facts, or what is wrong with it."""
    data = data_of(found)
    if data is None:
        return _not_understood("data", source, found)
    notes = [html.Div(note, className="ql-hint") for note in data.notes]
    classes = f", {data.classes} classes" if data.classes else ""
    status = good(f"{numbers.count(data.samples)} samples{classes}")
    return source_card("data", source, dict(found or {}), html.Div([fact_line(data_facts(data)), *notes]), status)


def calibration_card(source: Source, found: Mapping[str, Any] | None) -> html.Div:
    """The chosen calibration file, in one line; or what is wrong with it."""
    data = data_of(found)
    if data is None:
        return _not_understood("calibration", source, found)
    return source_card("calibration", source, dict(found or {}), None, good(f"{numbers.count(data.samples)} rows"))


def _not_understood(kind: Kind, source: Source, found: Mapping[str, Any] | None) -> html.Div:
    if found is None:
        return source_card(kind, source, None, None, "")
    if is_waiting(found):
        status = [html.Span(className="ql-spinner"), "looking inside"]
        return source_card(kind, source, dict(found), None, status)
    if found["state"] == "missing":
        gone = _wrong("The server does not have this file any more", "Upload it again")
        return source_card(kind, source, None, gone, bad("missing"))
    if found.get("error"):
        error = found["error"]
        return source_card(kind, source, dict(found), _wrong(error["message"], error["hint"]), bad("refused"))
    other = "data" if kind == "model" else "a model"
    what = "This file is " + (other if inspection_of(found) is not None else "not understood")
    return source_card(kind, source, dict(found), _wrong(what, f"Use it as {other}, or choose another file."), bad(""))


def _wrong(message: str, hint: str) -> html.Div:
    return html.Div(
        [html.Div([icon("triangle-alert", 14), html.Span(as_sentence(message))], className="ql-said bad"),
         html.Div(as_sentence(hint), className="ql-hint")],
        role="alert",
    )  # fmt: skip


@dataclass(frozen=True)
class Obstacle:
    """Why a run could not start; ``told`` says that the card tells it already."""

    words: str
    told: bool = True


def obstacle(kind: str, found: Mapping[str, Any] | None, architecture: str) -> Obstacle | None:
    """What stands in the way of a run from this model or data; None where nothing does."""
    if found is None:
        return None
    if is_waiting(found):
        return Obstacle(f"A worker is looking into the {kind} file.")
    known = checkpoint_of(found) if kind == "model" else data_of(found)
    if found["state"] == "missing":
        return Obstacle(f"The server does not have the {kind} file any more.")
    if known is None:
        return Obstacle(f"The {kind} file cannot be used; its card says why.")
    return _model_obstacle(known, architecture) if isinstance(known, CheckpointInspection) else None


def _model_obstacle(checkpoint: CheckpointInspection, architecture: str) -> Obstacle | None:
    if checkpoint.adapter:
        return Obstacle("The model is a LoRA adapter: choose its base as the model, and this file as the adapter.")
    if checkpoint.non_finite:
        return Obstacle("The model has weights that are not finite.")
    chosen = architecture if architecture != "auto" else best_architecture(checkpoint)
    if chosen is None and any(match.fits for match in checkpoint.architectures):
        return Obstacle("Several architectures fit these keys: choose the one that it is.", told=False)
    if chosen is None:
        return Obstacle(
            "No known architecture fits this checkpoint: the keys of the nearest are compared here.", told=False
        )
    match = next((match for match in checkpoint.architectures if match.architecture == chosen), None)
    if match is not None and not match.fits:
        return Obstacle(f"{chosen} does not fit this checkpoint: {how_it_fits(match)}.", told=False)
    return None
