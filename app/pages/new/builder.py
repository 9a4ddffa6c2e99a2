"""The scheme builder: a dialog in which every part of a recipe is chosen, beside the name that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from app.components import icon
from app.pages.new.builder_fields import BuilderFields, kv_suffixes
from app.pages.new.builder_fields import NumberFields as Numbers
from quant_lens_engine.schema import AlgorithmFacts, Capabilities, ObserverFacts, OptionFacts
from quant_lens_engine.schema.algorithms import PHASE_WORDS
from quant_lens_engine.schema.format_choices import FormatChoices, activation_choices, weight_choices
from quant_lens_engine.schema.number_format import DEFAULT_OBSERVER

SHARING_WORDS = {
    "channel": "each channel", "group": "a group of weights", "tensor": "the whole tensor", "block": "a square block",
    "token": "each token",
}  # fmt: skip
ACTIVATION_SHARING_WORDS = SHARING_WORDS | {"group": "a group of features"}
MAPPING_WORDS = {"symmetric": "symmetric", "full": "symmetric, full range", "asymmetric": "asymmetric"}
RANGE_WORDS = {"none": "in float", "static": "static ranges", "dynamic": "dynamic ranges"}
LOOKS = "looks at calibration rows"
DEBOUNCE_MS = 300


def builder(capabilities: Capabilities) -> html.Div:
    """The dialog, closed."""
    form = html.Div(
        [
            _section("Weights", _number_fields("builder", BuilderFields().weights, weight_choices(), SHARING_WORDS)),
            _activations(capabilities.observers),
            _section(
                "Algorithms",
                _algorithms(capabilities.algorithms),
                beside=["Without one, weights go to the nearest code. ", icon("database", 13), f" {LOOKS}."],
            ),
            _section("Layers left in float", _layers()),
        ],
        className="ql-builder-form",
    )
    add = html.Button(
        [icon("plus", 14), "Add to the run"], id="builder-add", type="button", className="button primary", disabled=True
    )
    said = html.Div([html.Div(id="builder-problem", role="alert"), html.Div(id="builder-told")])
    result = html.Div(
        [
            html.Div(
                [
                    html.Div("Its name", className="ql-label"),
                    html.Code(id="builder-name", className="ql-builder-name recipe-name"),
                ],
                role="status",
            ),
            add,
            said,
        ],
        className="ql-builder-result",
    )
    dialog = dmc.Modal(
        html.Div([form, result], className="ql-builder"),
        id="builder",
        title="Custom scheme",
        opened=False,
        size=1010,
        closeButtonProps={"aria-label": "Close"},
    )
    return html.Div([dialog, dcc.Store(id="builder-built")])


def format_options(known: Sequence[FormatChoices]) -> list[dict[str, str]]:
    """The formats as a select takes them."""
    return [{"value": item.name, "label": item.label} for item in known]


def sharing_options(known: FormatChoices, words: dict[str, str]) -> list[dict[str, str]]:
    """What may share a scale; the one that is there, with its size, where there is nothing to choose."""
    if known.sharing == ("group",) and len(known.group_sizes) == 1:
        return [{"value": "group", "label": f"{known.group_sizes[0]} weights, the standard's"}]
    return [{"value": item, "label": words[item]} for item in known.sharing]


def mapping_options(known: FormatChoices) -> list[dict[str, str]]:
    """How zero and the ends are mapped."""
    return [{"value": item, "label": MAPPING_WORDS[item]} for item in known.mappings]


def width_options(known: FormatChoices) -> list[dict[str, str]]:
    """Bits."""
    return [{"value": str(bits), "label": str(bits)} for bits in known.widths]


def option_id(algorithm: str, option: str) -> dict[str, str]:
    """The id of an option's field."""
    return {"type": "builder-option", "algorithm": algorithm, "option": option}


def _section(title: str, *body: Any, beside: Any = None) -> html.Section:
    head = [html.H3(title, className="ql-builder-title")]
    head += [html.Span(beside, className="ql-hint")] if beside else []
    return html.Section([html.Div(head, className="ql-builder-head"), *body], **{"aria-label": title})


def _field(part: Any, id_: str, hidden: bool = False) -> html.Div:
    return html.Div(part, id=f"{id_}-field", hidden=hidden)


def _number_fields(prefix: str, chosen: Numbers, known: Sequence[FormatChoices], words: dict[str, str]) -> html.Div:
    """Format, bits, what shares a scale, mapping; what a format does not have is hidden."""
    choices = next(item for item in known if item.name == chosen.format)
    sharing = chosen.sharing or choices.sharing[0]
    fields = [
        dmc.Select(id=f"{prefix}-format", label="Format", data=format_options(known), value=chosen.format, w=132),
        _field(
            dmc.Select(id=f"{prefix}-bits", label="Bits", data=width_options(choices), value=str(chosen.bits), w=66),
            f"{prefix}-bits",
        ),
        _field(
            dmc.TextInput(id=f"{prefix}-levels", label="Levels", placeholder="-1, -0.5, 0, 0.5, 1", w=190,
                          debounce=DEBOUNCE_MS),
            f"{prefix}-levels",
            hidden=True,
        ),
        _field(
            dmc.Select(id=f"{prefix}-sharing", label="One scale for", data=sharing_options(choices, words),
                       value=sharing, w=170),
            f"{prefix}-sharing",
        ),
        _field(
            dmc.NumberInput(id=f"{prefix}-group", label="of size", value=chosen.group, min=2, step=32, w=78,
                            allowDecimal=False, debounce=DEBOUNCE_MS),
            f"{prefix}-group",
            hidden=sharing not in ("group", "block"),
        ),
        _field(
            dmc.Select(id=f"{prefix}-mapping", label="Mapping", data=mapping_options(choices),
                       value=choices.mappings[0], w=160),
            f"{prefix}-mapping",
        ),
    ]  # fmt: skip
    return html.Div(fields, className="ql-fields")


def _activations(observers: Sequence[ObserverFacts]) -> html.Section:
    ranges = dmc.SegmentedControl(
        id="builder-ranges",
        value="none",
        data=[{"value": key, "label": words} for key, words in RANGE_WORDS.items()],
        attributes={"root": {"aria-label": "Activations"}},
    )
    observer = dmc.Select(
        id="builder-observer",
        label="Ranges from calibration rows: the observer",
        value=DEFAULT_OBSERVER,
        data=[{"value": item.name, "label": f"{item.name} · {item.description}"} for item in observers],
        w=420,
    )
    numbers = _number_fields("builder-act", Numbers(), activation_choices(dynamic=False), ACTIVATION_SHARING_WORDS)
    cache = html.Div(
        [
            dmc.Select(
                id="builder-kv", label="Keys and values", value="", w=190,
                data=[{"value": "", "label": "as activations"}, *_options_of(kv_suffixes())],
            ),
            dmc.Switch(id="builder-attention", label="Round attention's products too", checked=False),
        ],
        className="ql-fields ql-builder-attention",
    )  # fmt: skip
    return _section(
        "Activations",
        html.Div([ranges, html.Span(id="builder-ranges-said", className="ql-hint")], className="row-8"),
        html.Div([numbers, _field(observer, "builder-observer")], id="builder-act-fields", hidden=True),
        cache,
    )


def _options_of(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"value": value, "label": label} for value, label in pairs]


def _algorithms(algorithms: Sequence[AlgorithmFacts]) -> Any:
    if not algorithms:
        return html.P("No worker has said yet which algorithms there are.", className="ql-hint")
    groups = []
    for phase, words in PHASE_WORDS.items():
        members = [facts for facts in algorithms if facts.phase == phase]
        if members:
            head = html.Div([html.Strong(phase), f" {words}"], className="ql-label")
            groups.append(html.Div([head, *map(_algorithm, members)], className="ql-builder-phase"))
    return dmc.CheckboxGroup(html.Div(groups), id="builder-algorithms", value=[])


def _algorithm(facts: AlgorithmFacts) -> html.Div:
    looks = [icon("database", 13, label=LOOKS)] if facts.needs_calibration else []
    box = dmc.Checkbox(
        value=facts.name,
        label=html.Span([html.Code(facts.name), html.Span([facts.description, *looks], className="ql-builder-said")]),
    )  # fmt: skip
    options = html.Div(
        [_option(facts.name, item) for item in facts.option_facts],
        id={"type": "builder-options", "algorithm": facts.name},
        className="ql-fields ql-builder-options",
        hidden=True,
    )
    return html.Div([box, options], className="ql-builder-algorithm")


def _option(algorithm: str, facts: OptionFacts) -> Any:
    usual = str(facts.default).lower() if facts.kind == "switch" else str(facts.default)
    label = html.Span(facts.name, title=facts.meaning)
    shared: dict[str, Any] = {"id": option_id(algorithm, facts.name), "label": label, "placeholder": usual, "w": 118}
    if facts.kind == "switch":
        return dmc.Select(value=None, data=["true", "false"], clearable=True, allowDeselect=True, **shared)
    return dmc.TextInput(value="", debounce=DEBOUNCE_MS, **shared)


def _layers() -> html.Div:
    return html.Div(
        [
            dmc.Checkbox(id="builder-first", label="the first to run", checked=False),
            dmc.Checkbox(id="builder-head", label="the last to run (the head)", checked=False),
            dmc.TextInput(
                id="builder-patterns", placeholder="blocks.*.proj, kind.Embedding", w=250, debounce=DEBOUNCE_MS,
                attributes={"input": {"aria-label": "Names of layers, with * and ?, or kind.Class",
                                      "spellCheck": "false"}},
            ),
        ],
        className="ql-fields ql-builder-layers",
    )  # fmt: skip
