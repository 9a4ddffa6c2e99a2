"""The scheme builder's fields, from what is chosen in it to a name of the grammar and what the name means.

Pure. The name is read by the parser that reads every other name, so that the builder can say nothing else than it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import AlgorithmFacts, numbers, parse_recipe, parse_scheme
from quant_lens_engine.schema.format_choices import FormatChoices, activation_choices, weight_choices
from quant_lens_engine.schema.recipe_check import calibrated_by_facts, check_recipe_by_facts, usual_options
from quant_lens_engine.schema.recipe_description import recipe_parts
from quant_lens_engine.schema.scheme_description import typical_bits

USUAL_GROUP = 128


@dataclass(frozen=True)
class NumberFields:
    """What is chosen of a number format, for weights or for activations."""

    format: str = "integer"
    bits: int | None = 8
    levels: str = ""
    sharing: str = ""
    group: int | None = USUAL_GROUP
    mapping: str = ""


@dataclass(frozen=True)
class BuilderFields:
    """Everything in the builder.

    Attributes:
        ranges: of activations: ``none``, ``static`` or ``dynamic``.
        kv: a suffix of the grammar, such as ``kv8``; nothing leaves keys and values as activations are.
        options: what is written beside each algorithm, by its name and the option's.
        patterns: of layers left in float, as typed.
    """

    weights: NumberFields = NumberFields(bits=4, sharing="group")
    ranges: str = "none"
    activations: NumberFields = NumberFields()
    observer: str = ""
    kv: str = ""
    attention: bool = False
    algorithms: tuple[str, ...] = ()
    options: Mapping[tuple[str, str], str] = field(default_factory=dict)
    first: bool = False
    head: bool = False
    patterns: str = ""


@dataclass(frozen=True)
class Built:
    """What the fields make: a recipe in words, or what is wrong."""

    name: str
    parts: tuple[tuple[str, str], ...] = ()
    problem: str = ""
    hint: str = ""


def build(fields: BuilderFields, algorithms: Sequence[AlgorithmFacts]) -> Built:
    """The recipe of the fields.

    Example:
        >>> build(BuilderFields(), []).name
        'int4-g128'
        >>> build(BuilderFields(ranges="static", weights=NumberFields(sharing="channel"), head=True), []).name
        'w8a8+skip:head'
    """
    said = written_name(fields, algorithms)
    try:
        recipe = parse_recipe(said)
        check_recipe_by_facts(recipe, algorithms)
        recipe = recipe.without_usual(usual_options(algorithms))
    except QuantLensError as error:
        return Built(said, problem=error.message, hint=error.hint)
    parts = list(recipe_parts(recipe, algorithms))
    if recipe.scheme.format != "float":
        parts.append(("effective bits", f"{numbers.number(typical_bits(recipe.scheme), digits=4)} a weight"))
    looking = calibrated_by_facts(recipe, algorithms)
    parts.append(("calibration", f"rows for {', '.join(looking)}" if looking else "no rows needed"))
    return Built(recipe.name, tuple(parts))


def written_name(fields: BuilderFields, algorithms: Sequence[AlgorithmFacts]) -> str:
    """A name that says every choice; the parser shortens it."""
    weights = choices_of(weight_choices(), fields.weights.format)
    scheme = weights.stem(fields.weights.bits, _levels(fields.weights.levels)) + _sharing(weights, fields.weights)
    scheme += {"full": "-full", "asymmetric": "-asym"}.get(_mapping(weights, fields.weights), "")
    if fields.ranges != "none":
        scheme += f"-act-{_activations(fields)}"
    scheme += f"-{fields.kv}" if fields.kv else ""
    scheme += "-attn" if fields.attention else ""
    parts = [scheme]
    for facts in algorithms:
        if facts.name in fields.algorithms:
            given = [
                (item.name, fields.options.get((facts.name, item.name), "").strip()) for item in facts.option_facts
            ]
            parts.append(":".join([facts.name, *(f"{name}={text}" for name, text in given if text)]))
    skipped = [word for word, chosen in (("first", fields.first), ("head", fields.head)) if chosen]
    skipped += [pattern for pattern in re.split(r"[\s,;]+", fields.patterns) if pattern]
    return "+".join([*parts, *([":".join(["skip", *skipped])] if skipped else [])])


def choices_of(known: Sequence[FormatChoices], name: str) -> FormatChoices:
    """The choices of a format; those of the first where it is not among them."""
    return next((item for item in known if item.name == name), known[0])


def kv_suffixes() -> list[tuple[str, str]]:
    """How keys and values can be rounded: the suffix of a name, and words for it.

    Example:
        >>> kv_suffixes()[:2]
        [('kv8', 'INT8'), ('kv4', 'INT4')]
    """
    found = [(f"kv{bits}", f"INT{bits}") for bits in (8, 4, 3, 2)]
    for item in activation_choices(dynamic=True):
        suffix = f"kv-{item.name}"
        if item.levels or len(item.widths) > 1:
            continue
        try:
            parse_scheme(f"int8-{suffix}")
        except QuantLensError:
            continue
        found.append((suffix, item.label))
    return found


def _activations(fields: BuilderFields) -> str:
    dynamic, chosen = fields.ranges == "dynamic", fields.activations
    known = choices_of(activation_choices(dynamic), chosen.format)
    name = known.stem(chosen.bits, _levels(chosen.levels)) + _sharing(known, chosen)
    if len(known.mappings) > 1:
        name += {"symmetric": "-sym", "full": "-sym-full", "asymmetric": "-asym"}[_mapping(known, chosen)]
    name += "-dynamic" if dynamic else "-static"
    return name + (f"-{fields.observer}" if fields.observer and not dynamic else "")


def _sharing(known: FormatChoices, chosen: NumberFields) -> str:
    if len(known.sharing) < 2:
        return ""
    size = chosen.group or USUAL_GROUP
    sharing = chosen.sharing if chosen.sharing in known.sharing else known.sharing[0]
    flags = {"tensor": "-tensor", "token": "-token", "group": f"-g{size}", "block": f"-b{size}"}
    return flags.get(sharing, "")


def _mapping(known: FormatChoices, chosen: NumberFields) -> str:
    return chosen.mapping if chosen.mapping in known.mappings else known.mappings[0]


def _levels(text: str) -> list[str]:
    return [part for part in re.split(r"[\s,;:]+", text) if part]
