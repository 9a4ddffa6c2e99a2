"""What the fields of the New page say together: what is missing or wrong, what is complete, what may be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.components.variant_name import swatch_style
from app.pages.new.calibration import CalibrationView, calibration_view
from app.pages.new.cards import Obstacle, obstacle
from app.pages.new.choosing import Source, data_of
from app.pages.new.draft import DEFAULT_CALIBRATION, Draft
from quant_lens_engine.errors import QuantLensError, SchemeError
from quant_lens_engine.figures import scheme_styles
from quant_lens_engine.schema import AlgorithmFacts, RunSpec, numbers
from quant_lens_engine.schema.recipe import known_recipes
from quant_lens_engine.schema.recipe_check import spec_by_facts
from quant_lens_engine.schema.recipe_description import without_details

KINDS = ("model", "data")
FILES = (*KINDS, "calibration")
STABLE_SAMPLES = 4096
LONGEST_NAME = 120
_OF_DATA = frozenset({"scale", "mean", "std", "limit", "text_length", "calibration", "calibration_limit"})
QUESTION_BATCH = 128
QUESTION_SCHEMES = ("int8",)


@dataclass(frozen=True)
class Assessment:
    """A draft, assessed.

    Attributes:
        question: the RunSpec as JSON, for the baseline check; None while there is something in its way.
        problems: by field, in words; what is merely not chosen yet is no mistake and is not among them.
        told_beside_button: everything that keeps the run from starting.
        done: which steps are complete.
        swatches: style of the swatch beside each chosen scheme.
        calibration: what its section says.
        limit_hint: how many rows there are.
        transform_said: the transform in a line.
    """

    question: dict[str, Any] | None
    problems: dict[str, str]
    told_beside_button: list[str]
    done: dict[str, bool]
    swatches: dict[str, Any] = field(default_factory=dict)
    calibration: CalibrationView = field(default_factory=CalibrationView)
    limit_hint: str = ""
    transform_said: str = ""


def assessment(draft: Draft, found: Mapping[str, Any], algorithms: Sequence[AlgorithmFacts] = ()) -> Assessment:
    """The assessment of a draft.

    Args:
        draft: the fields.
        found: what workers have found in the chosen files, by kind.
        algorithms: what a worker has said of them.
    """
    problems = draft.problems()
    spec, more = spec_of(draft)
    problems |= more
    if spec is not None:
        problems |= _recipe_problems(spec, algorithms)
    calibration = calibration_view(draft, found, algorithms)
    if calibration.problem:
        problems["calibration"] = calibration.problem
    obstacles = {
        kind: thing
        for kind in KINDS
        if getattr(draft, kind) and (thing := obstacle(kind, found.get(kind), draft.architecture)) is not None
    }
    if draft.calibration and (thing := obstacle("calibration", found.get("calibration"), "")) is not None:
        obstacles["calibration"] = thing
    shown = {key: words for key, words in problems.items() if key not in KINDS}
    shown |= {kind: thing.words for kind, thing in obstacles.items() if not thing.told}
    data = data_of(found.get("data"))
    blocked = any(kind in obstacles for kind in KINDS)
    return Assessment(
        question=None if blocked else _question(draft),
        problems=shown,
        told_beside_button=[*problems.values(), *(thing.words for thing in obstacles.values())],
        done=_done_steps(draft, problems, obstacles),
        swatches=_swatches(draft),
        calibration=calibration,
        limit_hint=_limit_hint(draft.limit, data.samples if data and data.x_dtype != "text" else None),
        transform_said=_transform_said(draft),
    )


def _question(draft: Draft) -> dict[str, Any] | None:
    """What the baseline check is asked: it tries the float model on a few rows, whatever the run's sample, schemes and
    calibration are, so these are left out."""
    plain = draft.changed(schemes=QUESTION_SCHEMES, calibration=None, calibration_limit=DEFAULT_CALIBRATION)
    spec, _ = spec_of(plain)
    if spec is None:
        return None
    asked = spec.model_dump(mode="json")
    asked["data"] |= {"limit": None, "batch_size": QUESTION_BATCH}
    return asked


def _recipe_problems(spec: RunSpec, algorithms: Sequence[AlgorithmFacts]) -> dict[str, str]:
    try:
        spec_by_facts(spec, algorithms)
    except SchemeError as error:
        return {"schemes": f"{error.message}. {error.hint}."}
    return {}


def spec_of(draft: Draft) -> tuple[RunSpec | None, dict[str, str]]:
    """The run, or what is wrong with it by field."""
    if draft.problems():
        return None, {}
    try:
        return draft.spec(), {}
    except QuantLensError as error:
        return None, {"schemes" if isinstance(error, SchemeError) else "spec": error.message}
    except ValueError as error:
        return None, {"mean": str(error)}


def name_of(draft: Draft, found: Mapping[str, Any]) -> str:
    """A name for a run that was given none: ``digits-cnn, int8 to int2``."""
    place = place_of(draft.model, found.get("model"))
    if not place:
        return "of the run"
    model = draft.architecture if draft.architecture != "auto" else place.rpartition(".")[0] or place
    schemes = [without_details(scheme) for scheme in draft.schemes]
    name = model + (f", {schemes[0]}" if schemes else "") + (f" to {schemes[-1]}" if len(schemes) > 1 else "")
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def place_of(source: Source | None, found: Mapping[str, Any] | None) -> str:
    """What people call a source: the example's or the file's name."""
    if not source:
        return ""
    if "example" in source:
        return str(source["example"])
    named = (found or {}).get("filename") or source.get("filename") or source.get("path")
    return str(named or f"file {source['file'][:8]}")


def _swatches(draft: Draft) -> dict[str, Any]:
    chosen = known_recipes(draft.schemes)
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
        "model": bool(draft.model) and "model" not in obstacles and "adapter" not in problems,
        "data": bool(draft.data)
        and "data" not in obstacles
        and not _OF_DATA & set(problems)
        and "calibration" not in obstacles,
        "schemes": "schemes" not in problems,
        "analyses": not {"seed", "batch_size", "checkpoints", "tolerance"} & set(problems),
    }
