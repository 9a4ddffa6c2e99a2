"""What the network is measured for: what the files suggest, and the user's own choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import dash_mantine_components as dmc
from dash import html

from app.pages.new.choosing import checkpoint_of, data_of
from quant_lens_engine.schema.run_spec import Task

TASK_WORDS = {
    "classification": "classification: a class a row",
    "multi-label": "multi-label: several classes a row",
    "segmentation": "segmentation: a class a pixel",
    "token-classification": "token classification: a class a token",
    "regression": "regression: numbers",
    "causal-lm": "causal language model: the next token",
    "masked-lm": "masked language model: hidden tokens",
    "self-distillation": "self-distillation: the float model's own answers",
}
USUAL = "classification"
_BY_TEXT_ALONE = frozenset({"causal-lm", "masked-lm"})


def suggested_task(found: Mapping[str, Any]) -> str | None:
    """What model and data together are for; None while nothing says so.

    A language model makes its labels from the text itself; every other network needs labels, so that the data decide.

    Args:
        found: what workers have found in the chosen files, by kind.
    """
    model, data = checkpoint_of(found.get("model")), data_of(found.get("data"))
    purpose = model.suggested_task if model else None
    if purpose in _BY_TEXT_ALONE:
        return purpose
    labels = data.suggested_task if data else None
    if purpose is not None and labels not in {None, "self-distillation"}:
        return purpose
    return labels or purpose


def task_options(offered: Sequence[str], suggested: str | None, chosen: str) -> list[dict[str, str]]:
    """The choices: first what the files say, then every task that a worker measures.

    Example:
        >>> task_options(["regression"], None, "")[0]["label"]
        'as the files say'
    """
    first = f"as the files say: {suggested.replace('-', ' ')}" if suggested else "as the files say"
    names = list(offered or get_args(Task))
    names += [chosen] if chosen and chosen not in names else []
    return [{"value": "", "label": first}, *({"value": name, "label": TASK_WORDS.get(name, name)} for name in names)]


def task_field(chosen: str, offered: Sequence[str]) -> html.Div:
    """The choice; its first option is told anew when files are looked into."""
    field = dmc.Select(
        id="new-task", label="Task", value=chosen, data=task_options(offered, None, chosen), w=360, allowDeselect=False
    )
    return html.Div(field, className="ql-fields")
