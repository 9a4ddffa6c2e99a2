"""The schemes on offer in four columns, the common ones first; below them what the user has named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from app.components import icon
from app.components.variant_name import recipe_name
from quant_lens_engine.schema import AlgorithmFacts, SchemeFacts, numbers
from quant_lens_engine.schema.recipe import known_recipes
from quant_lens_engine.schema.recipe_description import recipe_parts
from quant_lens_engine.schema.scheme_description import typical_bits

COLUMNS: dict[str, str] = {
    "integer": "Integer, weights only",
    "float": "Float",
    "block": "Block and codebook",
    "activations": "Weights and activations",
}
NAMED = "Named by you"
SHOWN = 6
"""Schemes of a column that are seen before it is opened; a column of no more has nothing to open."""


def scheme_groups(
    offered: Sequence[SchemeFacts], named: Iterable[str], algorithms: Sequence[AlgorithmFacts] = ()
) -> list[html.Div]:
    """A column for each family, and a row of those that are not on offer.

    Args:
        offered: by a worker, in its order.
        named: recipes to show besides; those that are on offer are left out.
        algorithms: for a line on each recipe.
    """
    families: dict[str, list[SchemeFacts]] = {key: [] for key in COLUMNS}
    for facts in offered:
        families.setdefault(facts.family, []).append(facts)
    columns = [_column(family, members) for family, members in families.items() if members]
    known = {facts.name for facts in offered}
    own = [_own_option(name, algorithms) for name in dict.fromkeys(named) if name not in known]
    groups = [html.Div(columns, className="ql-scheme-columns")] if columns else []
    if own:
        groups.append(_group(NAMED, html.Div(own, className="ql-schemes own"), class_name="ql-scheme-own"))
    return groups


def hidden_counts(offered: Sequence[SchemeFacts], chosen: Iterable[str]) -> dict[str, int]:
    """How many schemes of each family wait behind its "more": a chosen one is always seen."""
    seen = set(chosen)
    return {
        family: sum(facts.name not in seen for facts in _rest([item for item in offered if item.family == family]))
        for family in dict.fromkeys(facts.family for facts in offered)
    }


def swatch_id(name: str) -> dict[str, str]:
    """The id of the swatch beside a scheme."""
    return {"type": "new-swatch", "scheme": name}


def tidy_name(text: str) -> str:
    """A recipe as somebody typed it, in the grammar's own letters; patterns of layers keep theirs.

    Example:
        >>> tidy_name(" INT4-g128 + GPTQ:act_order=true  skip:kind.Embedding ")
        'int4-g128+gptq:act_order=true+skip:kind.Embedding'
    """
    scheme, *steps = re.split(r"\s*\+\s*|\s+", text.strip())
    parts = [scheme.lower()]
    for step in filter(None, steps):
        word, colon, rest = step.partition(":")
        parts.append(word.lower() + colon + rest)
    return "+".join(parts)


def _rest(members: Sequence[SchemeFacts]) -> list[SchemeFacts]:
    """What is seen only when a column is opened."""
    if len(members) <= SHOWN:
        return []
    common = [facts for facts in members if facts.common][:SHOWN] or list(members[:SHOWN])
    return [facts for facts in members if facts not in common]


def _column(family: str, members: Sequence[SchemeFacts]) -> html.Div:
    rest = _rest(members)
    first = [facts for facts in members if facts not in rest]
    body: list[Any] = [html.Div([*map(_option, first), *(_option(facts, rest=True) for facts in rest)],
                                className="ql-schemes")]  # fmt: skip
    if rest:
        more = html.Button(
            [
                icon("chevron-down", 14),
                html.Span(f"{len(rest)} more", id={"type": "new-more", "family": family}, className="ql-more-count"),
                html.Span("Fewer", className="ql-more-fewer"),
            ],
            type="button", className="ql-link quiet ql-more",
            **{"data-ql-more": "", "aria-expanded": "false"},
        )  # fmt: skip
        body.append(more)
    return _group(COLUMNS.get(family, family), *body)


def _group(title: str, *body: Any, class_name: str = "") -> html.Div:
    return html.Div(
        [html.Div(title, className="ql-label"), *body],
        className=f"ql-scheme-group {class_name}".strip(),
        role="group",
        **{"aria-label": title},
    )


def _option(facts: SchemeFacts, *, rest: bool = False) -> dmc.CheckboxCard:
    return _card(facts.name, facts.name, facts.effective_bits, facts.description, "rest" if rest else "")


def _own_option(name: str, algorithms: Sequence[AlgorithmFacts]) -> dmc.CheckboxCard:
    recipe = next(iter(known_recipes([name])), None)
    if recipe is None:
        return _card(name, name, 0.0, "no scheme: see below", "")
    told = "; ".join(f"{part}: {words}" for part, words in recipe_parts(recipe, algorithms))
    return _card(name, recipe_name(name), typical_bits(recipe.scheme), told, "")


def _card(name: str, shown: Any, bits: float, description: str, class_name: str) -> dmc.CheckboxCard:
    return dmc.CheckboxCard(
        [
            dmc.CheckboxIndicator(size="xs"),
            html.Span(shown, className="ql-scheme-name recipe-name"),
            html.Span(id=swatch_id(name), className="swatch", hidden=True, **{"aria-hidden": "true"}),
            html.Span(_bits(bits), className="ql-scheme-bits"),
        ],
        value=name,
        className=f"ql-scheme {class_name}".strip(),
        attributes={"card": {"data-said": description, "aria-label": f"{name}: {description}"}},
    )


def _bits(bits: float) -> str:
    """Three digits, and half a hundredth goes up: 4.125 is 4.13."""
    return numbers.number(bits + 1e-9) if bits else ""
