"""Calibration on the New page: which recipes look at rows, where the rows come from, and whether they are measured too.

Pure: a draft, what is known of its files, and a worker's facts in; sentences out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.pages.new.choosing import data_of
from app.pages.new.draft import DEFAULT_CALIBRATION, Draft
from quant_lens_engine.schema import AlgorithmFacts, DataInspection, numbers
from quant_lens_engine.schema.calibration import FEWEST_CALIBRATION_ROWS, CalibrationPlan, plan_calibration
from quant_lens_engine.schema.recipe import known_recipes
from quant_lens_engine.schema.recipe_check import calibrated_by_facts


@dataclass(frozen=True)
class CalibrationView:
    """What stands in the calibration section.

    Attributes:
        shown: a chosen recipe looks at rows, or the user has chosen some.
        whose: the recipes that look at them, in words.
        hint: where the rows come from.
        warning: some of them are measured too; what to do.
        problem: why a recipe could not be run on such rows.
    """

    shown: bool = False
    whose: str = ""
    hint: str = ""
    warning: str = ""
    problem: str = ""


def calibration_view(draft: Draft, found: Mapping[str, Any], algorithms: Sequence[AlgorithmFacts]) -> CalibrationView:
    """The section for a draft.

    Args:
        draft: the fields.
        found: what workers have found in the chosen files, by kind.
        algorithms: what a worker has said of them.
    """
    recipes = known_recipes(draft.schemes)
    looking = [recipe.name for recipe in recipes if calibrated_by_facts(recipe, algorithms)]
    wanted = draft.calibration_limit or DEFAULT_CALIBRATION
    if not looking:
        chosen = draft.calibration is not None or wanted != DEFAULT_CALIBRATION
        return CalibrationView(chosen, whose="no chosen scheme looks at rows" if chosen else "")
    data, file = data_of(found.get("data")), data_of(found.get("calibration"))
    plan = _plan(draft, data, file, wanted)
    training = {facts.name for facts in algorithms if facts.phase == "train"}
    trained = [recipe.name for recipe in recipes if training & {step.name for step in recipe.algorithms}]
    overlaps = plan is not None and plan.overlap
    return CalibrationView(
        shown=True,
        whose=f"for {_listed(looking)}",
        hint=_hint(draft, data, plan),
        warning=_warning(data, wanted) if overlaps and data else "",
        problem=f"{_listed(trained)} cannot be trained on rows that are measured." if overlaps and trained else "",
    )


def _own_file(draft: Draft) -> bool:
    """Whether rows come from another file than the measured ones."""
    file = (draft.calibration or {}).get("file")
    return file is not None and file != (draft.data or {}).get("file")


def _plan(
    draft: Draft, data: DataInspection | None, file: DataInspection | None, wanted: int
) -> CalibrationPlan | None:
    """None while it is not known how many rows there are."""
    if _own_file(draft):
        return plan_calibration(file.samples, wanted, None) if file else None
    if data is None:
        return None
    if data.calibration_samples is not None:
        return plan_calibration(data.calibration_samples, wanted, None)
    return plan_calibration(data.samples, wanted, min(draft.limit or data.samples, data.samples))


def _hint(draft: Draft, data: DataInspection | None, plan: CalibrationPlan | None) -> str:
    if plan is None:
        return "of the file's rows" if _own_file(draft) else "of the rows that are not measured"
    pool = numbers.count(plan.pool)
    few = "" if plan.rows < plan.pool else "all "
    if _own_file(draft):
        return f"{few or 'of '}the file's {pool} rows"
    if data is not None and data.calibration_samples is not None:
        return f"{few or 'of '}the example's {pool} training rows"
    if plan.overlap:
        return f"{few or 'of '}the {pool} rows, measured ones among them"
    return f"{few or 'of '}the {pool} rows that are not measured"


def _warning(data: DataInspection, wanted: int) -> str:
    """The way out is fewer measured rows, or a file."""
    # All the rows that are wanted where that leaves most of the others, else the fewest that will do.
    enough = data.samples - (wanted if 2 * wanted <= data.samples else FEWEST_CALIBRATION_ROWS)
    lower = f"Lower Samples used to {numbers.count(enough)}, or add" if enough > 0 else "Add"
    return (
        "Too few rows are left over: calibration looks at rows that are measured too, and the numbers come out "
        f"better than they are. {lower} a file to calibrate on."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
