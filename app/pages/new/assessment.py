"""What the fields of the New page say together: what is missing or wrong, what is complete, what may be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.components.variant_name import swatch_style
from app.pages.new.cards import Obstacle, obstacle
from app.pages.new.choosing import Source, data_of
from app.pages.new.draft import Draft
from app.pages.new.schemes import known_schemes
from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.figures import scheme_styles
from quant_lens_engine.schema import RunSpec, numbers

KINDS = ("model", "data")
STABLE_SAMPLES = 4096
QUESTION_BATCH = 128


@dataclass(frozen=True)
class Assessment:
    """A draft, assessed.

    Attributes:
        question: the RunSpec as JSON, for the baseline check; None while there is something in its way.
        problems: by field, in words; what is merely not chosen yet is no mistake and is not among them.
        told_beside_button: everything that keeps the run from starting.
        done: which steps are complete.
        swatches: style of the swatch beside each chosen scheme.
        limit_hint: how many rows there are.
        transform_said: the transform in a line.
    """

    question: dict[str, Any] | None
    problems: dict[str, str]
    told_beside_button: list[str]
    done: dict[str, bool]
    swatches: dict[str, Any] = field(default_factory=dict)
    limit_hint: str = ""
    transform_said: str = ""


def assessment(draft: Draft, found: Mapping[str, Any]) -> Assessment:
    """The assessment of a draft.

    Args:
        draft: the fields.
        found: what workers have found in the chosen files, by kind.
    """
    problems = draft.problems()
    spec, more = spec_of(draft)
    problems |= more
    obstacles = {
        kind: thing
        for kind in KINDS
        if getattr(draft, kind) and (thing := obstacle(kind, found.get(kind), draft.architecture)) is not None
    }
    shown = {key: words for key, words in problems.items() if key not in KINDS}
    shown |= {kind: thing.words for kind, thing in obstacles.items() if not thing.told}
    data = data_of(found.get("data"))
    return Assessment(
        question=_question(spec) if spec is not None and not obstacles else None,
        problems=shown,
        told_beside_button=[*problems.values(), *(thing.words for thing in obstacles.values())],
        done=_done_steps(draft, problems, obstacles),
        swatches=_swatches(draft),
        limit_hint=_limit_hint(draft.limit, data.samples if data else None),
        transform_said=_transform_said(draft),
    )


def _question(spec: RunSpec) -> dict[str, Any]:
    """What the baseline check is asked: it tries a few rows whatever the run's sample is, so that is left out."""
    asked = spec.model_dump(mode="json")
    asked["data"] |= {"limit": None, "batch_size": QUESTION_BATCH}
    return asked


def spec_of(draft: Draft) -> tuple[RunSpec | None, dict[str, str]]:
    """The run, or what is wrong with it by field."""
    if draft.problems():
        return None, {}
    try:
        return draft.spec(), {}
    except QuantLensError as error:
        return None, {"schemes": error.message}
    except ValueError as error:
        return None, {"mean": str(error)}


def name_of(draft: Draft, found: Mapping[str, Any]) -> str:
    """A name for a run that was given none: ``digits-cnn, int8 to int2``."""
    place = place_of(draft.model, found.get("model"))
    if not place:
        return "of the run"
    model = draft.architecture if draft.architecture != "auto" else place.rpartition(".")[0] or place
    schemes = draft.schemes
    return model + (f", {schemes[0]}" if schemes else "") + (f" to {schemes[-1]}" if len(schemes) > 1 else "")


def place_of(source: Source | None, found: Mapping[str, Any] | None) -> str:
    """What people call a source: the example's or the file's name."""
    if not source:
        return ""
    if "example" in source:
        return str(source["example"])
    named = (found or {}).get("filename") or source.get("filename") or source.get("path")
    return str(named or f"file {source['file'][:8]}")


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
    if draft.scale:
        parts.append(f"× {draft.scale}")
    parts += [f"{word} {text}" for word, text in (("mean", draft.mean), ("std", draft.std)) if text]
    return " · ".join(parts)


def _done_steps(draft: Draft, problems: Mapping[str, str], obstacles: Mapping[str, Obstacle]) -> dict[str, bool]:
    return {
        "model": bool(draft.model) and "model" not in obstacles,
        "data": bool(draft.data) and "data" not in obstacles and not {"scale", "mean", "std", "limit"} & set(problems),
        "schemes": "schemes" not in problems,
        "analyses": not {"seed", "batch_size"} & set(problems),
    }
