"""The New page's callbacks around schemes: a name that is typed, or built, joins those that are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, no_update, set_props
from dash.exceptions import PreventUpdate

from app.components.sentence import as_sentence
from app.pages.new.schemes import scheme_groups, tidy_name
from app.routing import Services, in_thread
from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import AlgorithmFacts, parse_recipe
from quant_lens_engine.schema.recipe_check import check_recipe_by_facts, usual_options


def register_schemes(app: Dash, services: Services) -> None:
    """Add them all to ``app``."""

    @app.callback(
        Output("new-scheme-groups", "children"),
        Output("new-schemes", "value"),
        Output("new-custom", "value"),
        Output("new-custom-problem", "children"),
        Input("new-custom-add", "n_clicks"),
        Input("new-custom", "n_submit"),
        Input("builder-add", "n_clicks"),
        State("new-custom", "value"),
        State("builder-built", "data"),
        State("new-schemes", "value"),
        State({"type": "new-swatch", "scheme": ALL}, "id"),
        prevent_initial_call=True,
    )
    @in_thread
    def add_scheme(*given: Any) -> tuple[Any, ...]:
        *clicks, typed, built, chosen, shown = given
        if not any(clicks):
            raise PreventUpdate
        building = ctx.triggered_id == "builder-add"
        known = services.store.capabilities.read()
        name, problem = read_name(built if building else typed, known.algorithms)
        if problem:
            return no_update, no_update, no_update, problem
        if building:
            set_props("builder", {"opened": False})
        after = chosen if name in chosen else [*chosen, name]
        # A name that was unticked keeps its place until the page is left.
        named = [*(item["scheme"] for item in shown), *after]
        return scheme_groups(known.schemes, named, known.algorithms), after, no_update if building else "", None


def read_name(text: str | None, algorithms: Sequence[AlgorithmFacts]) -> tuple[str, str]:
    """The recipe's shortest name, or what is wrong with the text, in sentences.

    Example:
        >>> read_name(" W8A8 + GPTQ", [])
        ('w8a8+gptq', '')
    """
    if not text or not text.strip():
        return "", "Write a scheme's name, such as int4-g64-asym."
    try:
        recipe = parse_recipe(tidy_name(text))
        check_recipe_by_facts(recipe, algorithms)
    except QuantLensError as error:
        return "", f"{as_sentence(error.message)} {as_sentence(error.hint)}"
    return recipe.without_usual(usual_options(algorithms)).name, ""
