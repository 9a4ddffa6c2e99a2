"""Everything that the page says about a draft as a whole, worked out in one place from what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dash import html

from app.components.variant_name import swatch_style
from app.pages.new.cards import Obstacle, obstacle
from app.pages.new.choosing import Source, data_of
from app.pages.new.draft import Draft
from app.pages.new.schemes import known_schemes
from app.pages.new.summary import copies, device_text, estimate_view, facts_view, starts_text
from app.routing import Services
from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.figures import scheme_styles
from quant_lens_engine.schema import PRESET_DESCRIPTIONS, Capabilities, RunSpec, numbers
from quant_lens_engine.schema.estimate import estimate

KINDS = ("model", "data")
STABLE_SAMPLES = 4096


@dataclass
class Overview:
    """What the page shows of a draft.

    Attributes:
        kept: ``{"question": RunSpec as JSON | None}``: what the baseline check is asked.
        problems: by field, in words.
        done: which steps are complete.
        swatches: style of the swatch beside each chosen scheme.
        preset_times: the estimate for each preset.
    """

    kept: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    done: dict[str, bool] = field(default_factory=dict)
    swatches: dict[str, Any] = field(default_factory=dict)
    preset_times: dict[str, str] = field(default_factory=dict)
    limit_hint: str = ""
    transform_said: str = ""
    name: str = ""
    summary: Any = None
    note: Any = None
    can_run: bool = False
    copies: Any = None


def overview(
    services: Services,
    draft: Draft,
    found: Mapping[str, Any],
    check: Mapping[str, Any] | None,
    uploading: Sequence[str],
) -> Overview:
    """The overview of a draft, with what workers have found and measured so far."""
    seen = Overview(problems=draft.problems())
    obstacles = {
        kind: thing
        for kind in KINDS
        if getattr(draft, kind) and (thing := obstacle(kind, found.get(kind), draft.architecture)) is not None
    }
    spec = _spec_of(draft, seen)
    capabilities = services.store.capabilities.read()
    data = data_of(found.get("data"))
    measured = (check or {}).get("result") or {}
    available = data.samples if data else measured.get("available") or None
    seen.name = name_of(draft, found)
    seen.swatches = _swatches(draft)
    seen.limit_hint = _limit_hint(draft.limit, available)
    seen.transform_said = _transform_said(draft)
    seen.done = _done_steps(draft, seen.problems, obstacles)
    if spec is not None and not obstacles:
        seen.kept = {"question": spec.model_dump(mode="json")}
    per_row = measured.get("seconds_per_row")
    samples = _least(draft.limit, available)
    if spec is not None and per_row and samples:
        seen.preset_times = _preset_times(draft, samples, per_row)
    waiting = services.store.capabilities.queue_lengths().get("runs", 0)
    seen.summary = _summary(spec, capabilities, available, samples, per_row, waiting)
    seen.note = _note(seen.problems, obstacles, uploading)
    seen.can_run = spec is not None and not seen.problems and not obstacles and not uploading
    if spec is not None:
        seen.copies = copies(spec, {kind: _place_of(getattr(draft, kind), found.get(kind)) for kind in KINDS})
    # What is merely not chosen yet is no mistake: it is said beside the button, not in red under the card.
    seen.problems = {key: words for key, words in seen.problems.items() if key not in KINDS}
    seen.problems |= {kind: thing.words for kind, thing in obstacles.items() if not thing.told}
    return seen


def name_of(draft: Draft, found: Mapping[str, Any]) -> str:
    """A name for a run that was given none: ``digits-cnn, int8 to int2``."""
    place = _place_of(draft.model, found.get("model")) if draft.model else ""
    if not place:
        return "of the run"
    model = draft.architecture if draft.architecture != "auto" else place.rpartition(".")[0] or place
    schemes = draft.schemes
    return model + (f", {schemes[0]}" if schemes else "") + (f" to {schemes[-1]}" if len(schemes) > 1 else "")


def _spec_of(draft: Draft, seen: Overview) -> RunSpec | None:
    if seen.problems:
        return None
    try:
        return draft.spec()
    except QuantLensError as error:
        seen.problems["schemes"] = error.message
    except ValueError as error:
        seen.problems["mean"] = str(error)
    return None


def _place_of(source: Source | None, found: Mapping[str, Any] | None) -> str:
    if not source:
        return ""
    if "example" in source:
        return str(source["example"])
    named = (found or {}).get("filename") or source.get("filename") or source.get("path")
    return str(named or f"file {source['file'][:8]}")


def _least(*values: int | None) -> int | None:
    known = [value for value in values if value]
    return min(known) if known else None


def _swatches(draft: Draft) -> dict[str, Any]:
    chosen = known_schemes(draft.schemes)
    styles = scheme_styles(chosen)
    return {scheme.name: swatch_style(styles[scheme.name]) for scheme in chosen}


def _limit_hint(limit: int | None, available: int | None) -> str:
    if available is None:
        return ""
    if limit is None or limit >= available:
        return f"all {numbers.count(available)} rows"
    if limit < STABLE_SAMPLES <= available:
        return f"of {numbers.count(available)}; more rows, a steadier λmax"
    return f"of {numbers.count(available)}"


def _transform_said(draft: Draft) -> str:
    parts = [draft.layout or "layout as it is"]
    if draft.scale not in (None, 1.0):
        parts.append(f"× {numbers.number(draft.scale)}")
    parts += [f"{word} {text}" for word, text in (("mean", draft.mean), ("std", draft.std)) if text]
    return " · ".join(parts)


def _done_steps(draft: Draft, problems: Mapping[str, str], obstacles: Mapping[str, Obstacle]) -> dict[str, bool]:
    return {
        "model": bool(draft.model) and "model" not in obstacles,
        "data": bool(draft.data) and "data" not in obstacles and not {"mean", "std", "limit"} & set(problems),
        "schemes": "schemes" not in problems,
        "analyses": not {"seed", "batch_size"} & set(problems),
    }


def _preset_times(draft: Draft, samples: int, per_row: float) -> dict[str, str]:
    times = {}
    for preset in PRESET_DESCRIPTIONS:
        spec = draft.changed(preset=preset).spec()
        times[preset] = numbers.duration(estimate(spec, samples, per_row).total_s)
    return times


def _summary(
    spec: RunSpec | None, capabilities: Capabilities, available: int | None, samples: int | None,
    per_row: float | None, waiting: int,
) -> Any:  # fmt: skip
    if spec is None:
        return html.P("What would be run, and for how long, is summed up here.", className="ql-hint")
    found = estimate(spec, samples, per_row) if samples and per_row else None
    device = device_text(spec, capabilities.workers)
    return html.Div([facts_view(spec, available, device), estimate_view(found, starts_text(capabilities, waiting))])


def _note(problems: Mapping[str, str], obstacles: Mapping[str, Obstacle], uploading: Sequence[str]) -> str:
    if uploading:
        return f"Waits for the upload of {' and '.join(uploading)}."
    return next(iter([*problems.values(), *(thing.words for thing in obstacles.values())]), "")
