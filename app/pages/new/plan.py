"""What a draft would cost: the run itself, its time by stage, when it could start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dash import html

from app.pages.new.assessment import FILES, place_of, spec_of
from app.pages.new.choosing import data_of
from app.pages.new.draft import Draft
from app.pages.new.summary import copies, device_text, estimate_view, facts_view, starts_text
from app.routing import Services
from quant_lens_engine.schema import PRESET_DESCRIPTIONS, RunSpec, numbers
from quant_lens_engine.schema.algorithms import AlgorithmFacts
from quant_lens_engine.schema.estimate import estimate


@dataclass(frozen=True)
class Plan:
    """The right column.

    Attributes:
        spec: the run; None while the draft is none yet.
        preset_times: the estimate for each preset, by its name.
    """

    spec: RunSpec | None
    summary: Any
    preset_times: dict[str, str] = field(default_factory=dict)
    copies: Any = None


def plan_of(services: Services, draft: Draft, found: Mapping[str, Any], check: Mapping[str, Any] | None) -> Plan:
    """The plan for a draft, as far as the baseline check has told how fast the model is."""
    spec, _ = spec_of(draft)
    if spec is None:
        return Plan(None, html.P("What would be run, and for how long, is summed up here.", className="ql-hint"))
    measured = (check or {}).get("result") or {}
    data = data_of(found.get("data"))
    # Texts are cut and joined into rows of tokens: only the check has counted those.
    counted = data is not None and data.x_dtype != "text"
    available = data.samples if data and counted else measured.get("available") or None
    samples = min((value for value in (draft.limit, available) if value), default=0)
    per_row = float(measured.get("seconds_per_row") or 0.0)
    known = bool(samples and per_row)
    capabilities = services.store.capabilities.read()
    waiting = services.store.capabilities.queue_lengths().get("runs", 0)
    summary = html.Div(
        [
            facts_view(spec, available, device_text(spec, capabilities.workers)),
            estimate_view(
                estimate(spec, samples, per_row, capabilities.algorithms) if known else None,
                starts_text(capabilities, waiting),
            ),
        ]
    )
    return Plan(
        spec=spec,
        summary=summary,
        preset_times=_preset_times(draft, samples, per_row, capabilities.algorithms) if known else {},
        copies=copies(spec, {kind: place_of(getattr(draft, kind), found.get(kind)) for kind in FILES}),
    )


def _preset_times(
    draft: Draft, samples: int, seconds_per_row: float, algorithms: Sequence[AlgorithmFacts]
) -> dict[str, str]:
    specs = {preset: draft.changed(preset=preset).spec() for preset in PRESET_DESCRIPTIONS}
    return {
        preset: numbers.duration(estimate(spec, samples, seconds_per_row, algorithms).total_s)
        for preset, spec in specs.items()
    }
