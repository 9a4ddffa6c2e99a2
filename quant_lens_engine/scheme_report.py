"""Schemes, observers and algorithms as text: all that are on offer, or one recipe in full."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from quant_lens_engine.quantization.catalog import available_algorithms, available_observers, available_schemes
from quant_lens_engine.schema import AlgorithmFacts, Recipe
from quant_lens_engine.schema.algorithms import PHASE_WORDS
from quant_lens_engine.schema.number_format import DEFAULT_OBSERVER
from quant_lens_engine.schema.recipe_check import calibrated_by_facts, check_recipe_by_facts, usual_options
from quant_lens_engine.schema.recipe_description import display_name, recipe_parts
from quant_lens_engine.schema.scheme_description import FAMILIES, TYPICAL_CHANNEL, typical_bits

WIDTH = 110
LOOKS = "*"
"""Marks what looks at calibration rows."""

GRAMMAR = (
    "scheme   intB fp8-e4m3 nf4 mxfp4 nvfp4 …, then -gN -tensor -asym -full; wBaB[-dynamic] or -act-FORMAT; -kvB -attn",
    "recipe   scheme+algorithm[:option=value]+skip:LAYER:… with LAYER a name with * and ?, kind.Class, first or head",
)


def list_schemes() -> Iterator[str]:
    """Every scheme on offer by family, and the observers; loads no torch.

    Example:
        >>> next(list_schemes()).splitlines()[1].split()[:2]
        ['int8', '8.031']
    """
    schemes = available_schemes()
    for family, title in FAMILIES.items():
        members = [facts for facts in schemes if facts.family == family]
        rows = [(f"{facts.name}{_mark(facts.needs_calibration)}", _bits(facts), facts.description) for facts in members]
        yield _table(f"{title}: name, effective bits, what it is", rows)
    observers = [(facts.name, facts.description + _usual(facts.name)) for facts in available_observers()]
    yield _table("Observers of static activation ranges, as in w8a8-percentile", observers)


def list_algorithms() -> Iterator[str]:
    """Every algorithm by its phase, then the grammar of names; loads torch."""
    algorithms = available_algorithms()
    for phase, words in PHASE_WORDS.items():
        members = [facts for facts in algorithms if facts.phase == phase]
        if members:
            yield _table(f"Algorithms, {phase}: {words}", [_algorithm_row(facts) for facts in members])
    yield "\n".join(
        [
            f"{LOOKS} looks at calibration rows. Effective bits count scales and zero points, for a layer of "
            f"{TYPICAL_CHANNEL} × {TYPICAL_CHANNEL}.",
            "",
            *GRAMMAR,
        ]
    )


def explain_recipe(recipe: Recipe) -> str:
    """One scheme or recipe in full: parts and formulas, bits, calibration, fields. Algorithms load torch.

    Raises:
        SchemeError: an algorithm that is unknown, or has no meaning for the scheme.

    Example:
        >>> from quant_lens_engine.schema import parse_recipe
        >>> explain_recipe(parse_recipe("int4-g128")).splitlines()[0]
        'INT4-g128'
    """
    algorithms = available_algorithms() if recipe.algorithms else []
    check_recipe_by_facts(recipe, algorithms)
    recipe = recipe.without_usual(usual_options(algorithms))
    looking = calibrated_by_facts(recipe, algorithms)
    rows = recipe_parts(recipe, algorithms)
    if recipe.scheme.format != "float":
        size = f"{TYPICAL_CHANNEL} × {TYPICAL_CHANNEL}"
        rows.append(("effective bits", f"{typical_bits(recipe.scheme):.4g} a weight, for a layer of {size}"))
    rows.append(("calibration", f"rows are needed: {', '.join(looking)}" if looking else "no rows are needed"))
    fields = [(key, _written(value)) for key, value in _flat(recipe.scheme.model_dump()) if value not in (None, ())]
    said = display_name(recipe.name)
    head = [said] if said == recipe.name else [said, recipe.name]
    return "\n\n".join(["\n".join(head), _table("", rows), _table("Fields of the scheme", fields)])


def _algorithm_row(facts: AlgorithmFacts) -> tuple[str, str]:
    options = ", ".join(f"{name}={_written(value)}" for name, value in facts.options.items())
    return f"{facts.name}{_mark(facts.needs_calibration)}", facts.description + (f"; {options}" if options else "")


def _mark(looks: bool) -> str:
    return f" {LOOKS}" if looks else ""


def _usual(name: str) -> str:
    return " (where none is named)" if name == DEFAULT_OBSERVER else ""


def _bits(facts: Any) -> str:
    return f"{facts.effective_bits:.4g}"


def _table(title: str, rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as they need; the last one is wrapped."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [title] if title else []
    for *cells, last in rows:
        start = "  " + "".join(f"{cell:<{width}}  " for cell, width in zip(cells, widths, strict=True))
        lines += textwrap.wrap(last, WIDTH, initial_indent=start, subsequent_indent=" " * len(start)) or [start]
    return "\n".join(lines)


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
