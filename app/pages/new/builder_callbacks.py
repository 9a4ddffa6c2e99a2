"""The scheme builder's callbacks: fields follow from the format, and the name from the fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, html

from app.components import icon, recipe_name
from app.components.sentence import as_sentence
from app.pages.new.builder import (
    ACTIVATION_SHARING_WORDS,
    SHARING_WORDS,
    format_options,
    mapping_options,
    sharing_options,
    width_options,
)
from app.pages.new.builder_fields import BuilderFields, Built, NumberFields, build, choices_of
from app.routing import Services, in_thread
from quant_lens_engine.schema.format_choices import FormatChoices, activation_choices, weight_choices

NUMBER_FIELDS = ("format", "bits", "levels", "sharing", "group", "mapping")
OTHER_FIELDS = {
    "builder-ranges": "value", "builder-observer": "value", "builder-kv": "value", "builder-attention": "checked",
    "builder-algorithms": "value", "builder-first": "checked", "builder-head": "checked", "builder-patterns": "value",
}  # fmt: skip
RANGES_SAID = {
    "none": "",
    "static": "one range for all rows, from calibration rows",
    "dynamic": "from the values themselves, at each pass",
}


def register_builder(app: Dash, services: Services) -> None:
    """Add them all to ``app``."""
    app.clientside_callback(
        "(clicks) => clicks ? true : window.dash_clientside.no_update",
        Output("builder", "opened"),
        Input("new-build", "n_clicks"),
        prevent_initial_call=True,
    )
    _register_shape(app, "builder", lambda _: weight_choices(), SHARING_WORDS)
    _register_shape(
        app, "builder-act", lambda ranges: activation_choices(dynamic=ranges == "dynamic"), ACTIVATION_SHARING_WORDS
    )
    _register_ranges(app)
    _register_name(app, services)


def _register_shape(
    app: Dash, prefix: str, known: Callable[[str], Sequence[FormatChoices]], words: dict[str, str]
) -> None:
    @app.callback(
        Output(f"{prefix}-bits", "data"),
        Output(f"{prefix}-bits", "value"),
        Output(f"{prefix}-bits-field", "hidden"),
        Output(f"{prefix}-levels-field", "hidden"),
        Output(f"{prefix}-sharing", "data"),
        Output(f"{prefix}-sharing", "value"),
        Output(f"{prefix}-sharing", "disabled"),
        Output(f"{prefix}-mapping", "data"),
        Output(f"{prefix}-mapping", "value"),
        Output(f"{prefix}-mapping-field", "hidden"),
        Input(f"{prefix}-format", "value"),
        Input("builder-ranges", "value"),
        State(f"{prefix}-bits", "value"),
        State(f"{prefix}-sharing", "value"),
        State(f"{prefix}-mapping", "value"),
        prevent_initial_call=True,
    )
    def shape(name: str, ranges: str, bits: str, sharing: str, mapping: str) -> tuple[Any, ...]:
        """Only what the format takes; what was chosen stays where it can."""
        found = choices_of(known(ranges), name)
        widths = [str(width) for width in found.widths]
        # A change between static and dynamic ranges brings the usual mapping of the other along.
        kept = mapping if mapping in found.mappings and ctx.triggered_id != "builder-ranges" else found.mappings[0]
        return (
            width_options(found),
            bits if bits in widths else next(iter(widths[-1:]), None),
            len(widths) < 2,
            not found.levels,
            sharing_options(found, words),
            sharing if sharing in found.sharing else found.sharing[0],
            len(found.sharing) < 2,
            mapping_options(found),
            kept,
            len(found.mappings) < 2,
        )

    @app.callback(
        Output(f"{prefix}-group-field", "hidden"),
        Input(f"{prefix}-sharing", "value"),
        Input(f"{prefix}-sharing", "disabled"),
        prevent_initial_call=True,
    )
    def show_size(sharing: str, fixed: bool) -> bool:
        return fixed or sharing not in ("group", "block")


def _register_ranges(app: Dash) -> None:
    @app.callback(
        Output("builder-act-fields", "hidden"),
        Output("builder-observer-field", "hidden"),
        Output("builder-act-format", "data"),
        Output("builder-act-format", "value"),
        Output("builder-ranges-said", "children"),
        Input("builder-ranges", "value"),
        State("builder-act-format", "value"),
        prevent_initial_call=True,
    )
    def show_activations(ranges: str, name: str) -> tuple[Any, ...]:
        known = activation_choices(dynamic=ranges == "dynamic")
        return (
            ranges == "none",
            ranges != "static",
            format_options(known),
            choices_of(known, name).name,
            RANGES_SAID[ranges],
        )


def _register_name(app: Dash, services: Services) -> None:
    @app.callback(
        Output("builder-name", "children"),
        Output("builder-told", "children"),
        Output("builder-problem", "children"),
        Output("builder-add", "disabled"),
        Output("builder-built", "data"),
        Output({"type": "builder-options", "algorithm": ALL}, "hidden"),
        *[Input(f"builder-{name}", "value") for name in NUMBER_FIELDS],
        *[Input(f"builder-act-{name}", "value") for name in NUMBER_FIELDS],
        *[Input(id_, prop) for id_, prop in OTHER_FIELDS.items()],
        Input({"type": "builder-option", "algorithm": ALL, "option": ALL}, "value"),
    )
    @in_thread
    def name_it(*values: Any) -> tuple[Any, ...]:
        """The recipe that the fields make, and its meaning; or what is wrong with it."""
        given = ctx.inputs_list[-1]
        options = {(item["id"]["algorithm"], item["id"]["option"]): item.get("value") or "" for item in given}
        fields = fields_of(values[:-1], options)
        built = build(fields, services.store.capabilities.read().algorithms)
        hidden = [item["id"]["algorithm"] not in fields.algorithms for item in ctx.outputs_list[-1]]
        return recipe_name(built.name), told(built), problem_of(built), bool(built.problem), built.name, hidden


def fields_of(values: Sequence[Any], options: dict[tuple[str, str], str]) -> BuilderFields:
    """The fields, from the values in the order of ``NUMBER_FIELDS`` twice and ``OTHER_FIELDS``."""
    count = len(NUMBER_FIELDS)
    others = dict(zip(OTHER_FIELDS, values[2 * count :], strict=True))
    return BuilderFields(
        weights=_numbers(values[:count]),
        ranges=others["builder-ranges"] or "none",
        activations=_numbers(values[count : 2 * count]),
        observer=others["builder-observer"] or "",
        kv=others["builder-kv"] or "",
        attention=bool(others["builder-attention"]),
        algorithms=tuple(others["builder-algorithms"] or ()),
        options=options,
        first=bool(others["builder-first"]),
        head=bool(others["builder-head"]),
        patterns=others["builder-patterns"] or "",
    )


def _numbers(values: Sequence[Any]) -> NumberFields:
    name, bits, levels, sharing, group, mapping = values
    return NumberFields(
        format=name or "integer",
        bits=int(bits) if bits else None,
        levels=levels or "",
        sharing=sharing or "",
        group=group if isinstance(group, int) else None,
        mapping=mapping or "",
    )


def told(built: Built) -> html.Dl | None:
    """What a recipe means, part by part."""
    if not built.parts:
        return None
    pairs = [html.Div([html.Dt(part), html.Dd(words)]) for part, words in built.parts]
    return html.Dl(pairs, className="ql-builder-parts")


def problem_of(built: Built) -> html.Div | None:
    """What is wrong, and what to do."""
    if not built.problem:
        return None
    return html.Div(
        [
            html.Div([icon("triangle-alert", 14), html.Span(as_sentence(built.problem))], className="ql-said bad"),
            html.Div(as_sentence(built.hint), className="ql-hint") if built.hint else None,
        ]
    )
