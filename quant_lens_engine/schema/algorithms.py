"""What is known of an algorithm where there is no torch: its phase, its options, and what it is not defined for.

The algorithms themselves are in :mod:`quant_lens_engine.quantization.algorithms`. A worker writes these facts into its
capabilities, and a page or the API tells by them what is wrong with a recipe, in the words of the engine.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.schema.base import Record, Request

Phase = Literal["prepare", "range", "round", "correct", "train"]
PHASES: tuple[Phase, ...] = ("prepare", "range", "round", "correct", "train")
"""When an algorithm runs; activation ranges are calibrated between *prepare* and *range*."""

EXCLUSIVE_PHASES: tuple[Phase, ...] = ("range", "round", "train")
"""Of these a recipe names one algorithm at most: two would do the same work."""

PHASE_WORDS: dict[str, str] = {
    "prepare": "rescales the network without changing its function",
    "range": "chooses the range that a grid of weights holds",
    "round": "chooses the codes of weights",
    "correct": "makes up for what rounding does on average",
    "train": "changes parameters by gradient descent through the rounding",
}

OptionKind = Literal["whole", "number", "switch", "text"]
_KINDS: dict[OptionKind, type] = {"whole": int, "number": float, "switch": bool, "text": str}
_KIND_OF_TYPE: dict[str, OptionKind] = {"integer": "whole", "number": "number", "boolean": "switch"}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


class OptionFacts(Record):
    """One option of an algorithm.

    Attributes:
        kind: of its value.
        default: the usual value.
        meaning: in a few words.
        bounds: ``ge``, ``gt``, ``le`` and ``lt``, as far as there are any.
    """

    name: str
    kind: OptionKind = "text"
    default: Any = None
    meaning: str = ""
    bounds: dict[str, float] = {}


class Refusal(Record):
    """A kind of scheme that an algorithm is not defined for: the format of the weights, and whether activations are
    rounded."""

    format: str
    activations: bool
    reason: str = ""
    hint: str = ""


class AlgorithmFacts(Record):
    """An algorithm that a recipe can name.

    Attributes:
        phase: when it runs, one of :data:`PHASES`.
        needs_calibration: it looks at calibration rows.
        passes: what it takes, in forward passes over the calibration rows, about; with the usual number of steps.
        options: their usual values, by name.
        option_facts: the same with kind, bounds and meaning.
        refusals: what it is not defined for; the engine may refuse more.
    """

    name: str
    description: str = ""
    phase: str = ""
    needs_calibration: bool = False
    passes: float = 0.0
    options: dict[str, Any] = {}
    option_facts: list[OptionFacts] = []
    refusals: list[Refusal] = []


def option_facts(options: type[BaseModel]) -> list[OptionFacts]:
    """The options that a record declares, with the meanings that its docstring gives them.

    Example:
        >>> class Options(Request):
        ...     '''How much.
        ...
        ...     Attributes:
        ...         alpha: 0 is nothing,
        ...             1 is all.
        ...     '''
        ...     alpha: float = Field(default=0.5, ge=0, le=1)
        >>> facts = option_facts(Options)[0]
        >>> facts.kind, facts.default, facts.bounds, facts.meaning
        ('number', 0.5, {'ge': 0.0, 'le': 1.0}, '0 is nothing, 1 is all.')
    """
    meanings: dict[str, str] = {}
    for kind in reversed(options.__mro__):
        meanings |= _attribute_meanings(kind.__doc__ or "")
    return [
        OptionFacts(
            name=name,
            kind=_KIND_OF_TYPE.get(known.get("type", ""), "text"),
            default=known.get("default"),
            meaning=meanings.get(name, ""),
            bounds={word: known[key] for word, key in _BOUNDS.items() if key in known},
        )
        for name, known in options.model_json_schema().get("properties", {}).items()
    ]


def options_model(facts: Sequence[OptionFacts]) -> type[BaseModel]:
    """A record that takes what the engine's own would take; the inverse of :func:`option_facts`.

    Example:
        >>> model = options_model([OptionFacts(name="steps", kind="whole", default=20, bounds={"ge": 1})])
        >>> model(steps=3).steps, model().steps
        (3, 20)
    """
    fields: dict[str, Any] = {}
    for item in facts:
        bounds: Any = item.bounds
        fields[item.name] = (_KINDS[item.kind], Field(default=item.default, **bounds))
    return create_model("Options", __base__=Request, **fields)


def read_options(algorithm: str, options: type[BaseModel], given: Mapping[str, Any]) -> BaseModel:
    """The options of an algorithm as a record. A value is of its option's type already (a recipe's options are): ``1``
    for ``true``, or a text that could be read as a number, would be a second name for one recipe.

    Raises:
        SchemeError: ``bad_option``.

    Example:
        >>> read_options("clip", options_model([]), {"steps": 3})
        Traceback (most recent call last):
        ...
        quant_lens_engine.errors.SchemeError: clip has no option 'steps'
        it has no options
    """
    try:
        return options.model_validate(dict(given), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        known = [f"{key}={_written(value.default)}" for key, value in options.model_fields.items()]
        hint = f"its options, with their usual values: {', '.join(known)}" if known else "it has no options"
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where, list(options.model_fields), n=1)
            said = f"{algorithm} has no option {where!r}"
            hint = (f"did you mean {near[0]}? " if near else "") + hint
        else:
            said = f"{algorithm}: {where}: {first['msg']}"
        details = {"algorithm": algorithm, "option": where}
        raise SchemeError(said, hint=hint, code="bad_option", details=details) from None


def unknown_algorithm(name: str, recipe: str, known: Sequence[str]) -> SchemeError:
    """There is no algorithm of this name: those that are spelled like it, and all that there are."""
    near = difflib.get_close_matches(name, list(known), n=2)
    return SchemeError(
        f"unknown algorithm {name!r} in {recipe!r}",
        hint=(f"did you mean {' or '.join(near)}? " if near else "") + f"known: {', '.join(sorted(known))}",
        code="unknown_algorithm",
        details={"algorithm": name, "nearest": near},
    )


def rounds_nothing(recipe: str) -> SchemeError:
    """A recipe leaves the float model as it is."""
    return SchemeError(f"{recipe} rounds nothing", hint="FP32 is always measured", code="nothing_to_quantize")


def not_defined(algorithm: str, scheme: str, reason: str, hint: str) -> SchemeError:
    """An algorithm has no meaning for a scheme."""
    return SchemeError(
        f"{algorithm} is not defined for {scheme}: {reason}",
        hint=hint,
        code="not_defined",
        details={"algorithm": algorithm, "scheme": scheme, "reason": reason},
    )


def refuse_clashes(recipe: str, phases: Sequence[tuple[str, str]]) -> None:
    """Raise where two algorithms would do the same work.

    Args:
        recipe: its name.
        phases: each algorithm with its phase.

    Raises:
        SchemeError: ``clashing_algorithms``.
    """
    for phase in EXCLUSIVE_PHASES:
        names = [name for name, found in phases if found == phase]
        if len(names) > 1:
            raise SchemeError(
                f"{' and '.join(names)} clash in {recipe!r}: each would do the same work",
                hint="name one of them",
                code="clashing_algorithms",
                details={"algorithms": names},
            )


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _attribute_meanings(docstring: str) -> dict[str, str]:
    """What stands under ``Attributes:``."""
    _, _, listed = inspect.cleandoc(docstring).partition("\nAttributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in listed.splitlines():
        if not line.startswith("    "):
            break
        if match := re.match(r"    (\w+): (.+)", line):
            name = match[1]
            found[name] = match[2].strip()
        elif name:
            found[name] += f" {line.strip()}"
    return found
