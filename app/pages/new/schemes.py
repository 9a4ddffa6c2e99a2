"""The schemes on offer, by family, each with its line and its bits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dash_mantine_components as dmc
from dash import html

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import Recipe, SchemeFacts, numbers, parse_recipe

FAMILY_WORDS = {"float8": "Float", "codebook": "Block and codebook"}
GRANULARITY_WORDS = {"channel": "One scale a channel", "group": "One scale a group", "tensor": "One scale a tensor"}
UNEVEN = "Asymmetric, full range"
CUSTOM_FAMILY = "Named by you"
_ORDER = (*GRANULARITY_WORDS.values(), UNEVEN)


def scheme_groups(offered: Sequence[SchemeFacts], chosen: Iterable[str]) -> list[html.Div]:
    """A column for each family; schemes that are chosen but not offered have one of their own."""
    families: dict[str, list[SchemeFacts]] = {}
    for facts in offered:
        families.setdefault(_column(facts), []).append(facts)
    known = {facts.name for facts in offered}
    custom = [_facts_of(name) for name in chosen if name not in known]
    if custom:
        families[CUSTOM_FAMILY] = custom
    return [
        html.Div(
            [
                html.Div(title, className="ql-label"),
                html.Div([_option(facts) for facts in members], className="ql-schemes"),
            ],
            className="ql-scheme-group",
            role="group",
            **{"aria-label": title},
        )
        for title, members in sorted(families.items(), key=lambda item: _place(item[0]))
    ]


def _place(title: str) -> int:
    return _ORDER.index(title) if title in _ORDER else len(_ORDER)


def _column(facts: SchemeFacts) -> str:
    """The family's words; the many integer schemes stand by what shares one scale."""
    if facts.family != "integer":
        return FAMILY_WORDS.get(facts.family, facts.family)
    scheme = parse_recipe(facts.name).scheme
    uneven = not scheme.symmetric or scheme.full_range
    return UNEVEN if uneven else GRANULARITY_WORDS[scheme.granularity]


def swatch_id(name: str) -> dict[str, str]:
    """The id of the swatch beside a scheme."""
    return {"type": "new-swatch", "scheme": name}


def known_schemes(names: Iterable[str]) -> list[Recipe]:
    """Those of the names that are schemes."""
    found = []
    for name in names:
        try:
            found.append(parse_recipe(name))
        except QuantLensError:
            continue
    return found


def _option(facts: SchemeFacts) -> dmc.CheckboxCard:
    bits = numbers.number(facts.effective_bits) if facts.effective_bits else ""
    return dmc.CheckboxCard(
        [
            dmc.CheckboxIndicator(size="xs"),
            html.Span(facts.name, className="ql-scheme-name"),
            html.Span(id=swatch_id(facts.name), className="swatch", hidden=True, **{"aria-hidden": "true"}),
            html.Span(bits, className="ql-scheme-bits"),
        ],
        value=facts.name,
        className="ql-scheme",
        attributes={"card": {"title": facts.description, "aria-label": f"{facts.name}: {facts.description}"}},
    )


def _facts_of(name: str) -> SchemeFacts:
    parsed = next(iter(known_schemes([name])), None)
    return SchemeFacts(
        name=name,
        family=CUSTOM_FAMILY,
        bits=parsed.scheme.bits if parsed else 0,
        effective_bits=0,
        description="named by you",
    )
