"""A recipe: a scheme, the algorithms that bring a network into it, and the layers that it is for.

Its name holds all of it, so it can stand wherever a scheme's name can::

    recipe := scheme ( "+" algorithm ( ":" option "=" value )* | "+only" ( ":" pattern )+ | "+skip" ( ":" pattern )+ )*

    int4-g128   int3+gptq   int3-g64+gptq:act_order=true   w8a8+smoothquant+gptq   int4+skip:first:head
    int4+fold-batchnorm+equalize+adaround:steps=2000+skip:kind.Embedding:blocks.*.proj

Without an algorithm weights are rounded to nearest (RTN). Of an option's spellings one is kept (``true``, ``1000`` for
``1e3``); where the algorithms are known, an option that has its usual value is left out too. A pattern is a layer's
name with ``*`` and ``?``, ``kind.X`` for layers of the class X, ``first`` for the layer that runs first, or ``head``
for the one that runs last (without rows to run, of those that are named; a note says so).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.schema.base import Request
from quant_lens_engine.schema.option_values import OptionValue, canonical_value, read_value, written_value
from quant_lens_engine.schema.scheme import QuantizationScheme, parse_scheme, reason_of, unknown_scheme

Pattern = Annotated[str, Field(pattern=r"^[\w.*?\[\]-]+$", max_length=200)]

RECIPE_GRAMMAR = (
    "a recipe is a scheme, then +algorithm or +skip:layer: int3+gptq, w8a8+smoothquant, int4+skip:first:head"
)

_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=[^:+=]+")
_STEP = re.compile(rf"[a-z][a-z0-9-]*(:{_OPTION.pattern})*")


class AlgorithmStep(Request):
    """One algorithm, with the options that are not its usual ones."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=60)
    options: dict[str, OptionValue] = {}

    @field_validator("options")
    @classmethod
    def _as_a_name_says_them(cls, options: dict[str, OptionValue]) -> dict[str, OptionValue]:
        read = {
            key: read_value(value) if isinstance(value, str) else canonical_value(value)
            for key, value in options.items()
        }
        for key, value in read.items():
            if _OPTION.fullmatch(f"{key}={written_value(value)}") is None:
                raise ValueError(f"{key}={value!r} cannot be said in a recipe's name")
        return read

    def without_usual(self, usual: Mapping[str, Any]) -> AlgorithmStep:
        """The same step, without the options that have their usual values."""
        kept = {
            key: value
            for key, value in self.options.items()
            if key not in usual or written_value(value) != written_value(canonical_value(usual[key]))
        }
        return self if kept == self.options else self.model_copy(update={"options": kept})

    @property
    def text(self) -> str:
        """As a name says it: ``gptq:act_order=true``."""
        return ":".join([self.name, *(f"{key}={written_value(value)}" for key, value in sorted(self.options.items()))])


class LayerChoice(Request):
    """Which layers are quantized: those that match ``only`` (all, where it is empty) and do not match ``skip``."""

    only: tuple[Pattern, ...] = ()
    skip: tuple[Pattern, ...] = ()


class Recipe(Request):
    """How one variant is made. Two recipes are the same when their names are.

    Example:
        >>> recipe = parse_recipe("int3-g64+gptq:act_order=true+skip:head")
        >>> recipe.scheme.group_size, recipe.algorithms[0].options, recipe.layers.skip
        (64, {'act_order': True}, ('head',))
        >>> parse_recipe(recipe.name) == recipe
        True
    """

    scheme: QuantizationScheme
    algorithms: tuple[AlgorithmStep, ...] = ()
    layers: LayerChoice = LayerChoice()

    @field_validator("scheme", mode="before")
    @classmethod
    def _named(cls, value: Any) -> QuantizationScheme:
        return parse_scheme(value)

    @field_validator("algorithms", mode="before")
    @classmethod
    def _named_steps(cls, value: Any) -> Any:
        return [_step(item) if isinstance(item, str) else item for item in value] if isinstance(value, list) else value

    @field_validator("algorithms")
    @classmethod
    def _each_once(cls, steps: tuple[AlgorithmStep, ...]) -> tuple[AlgorithmStep, ...]:
        names = [step.name for step in steps]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"+{repeated[0]} is said twice")
        return steps

    @property
    def name(self) -> str:
        """The recipe in its grammar."""
        layers = [":".join([word, *patterns]) for word in ("only", "skip") if (patterns := getattr(self.layers, word))]
        return "+".join([self.scheme.name, *(step.text for step in self.algorithms), *layers])

    def without_usual(self, usual: Mapping[str, Mapping[str, Any]]) -> Recipe:
        """The same recipe, without the options that have their usual values: the one name of all that mean it.

        Args:
            usual: of each algorithm, the usual values of its options.

        Example:
            >>> parse_recipe("int3+gptq:block=1.28e2:damping=0.1").without_usual({"gptq": {"block": 128}}).name
            'int3+gptq:damping=0.1'
        """
        steps = tuple(step.without_usual(usual.get(step.name, {})) for step in self.algorithms)
        return self if steps == self.algorithms else self.model_copy(update={"algorithms": steps})


def parse_recipe(value: str | Recipe | QuantizationScheme | dict[str, Any]) -> Recipe:
    """A recipe from its name, its JSON, a scheme, or itself.

    Raises:
        SchemeError: ``unknown_scheme``, with the grammar in its hint. Whether there are algorithms of these names, and
            whether they are defined for the scheme, is known where they are: when the run is inspected.
    """
    if isinstance(value, Recipe):
        return value
    if isinstance(value, QuantizationScheme) or (isinstance(value, dict) and "scheme" not in value):
        return Recipe(scheme=parse_scheme(value))
    if not isinstance(value, str | dict):
        raise SchemeError(f"a scheme is a name or an object, not a {type(value).__name__}", hint=RECIPE_GRAMMAR)
    try:
        fields = {key: item for key, item in value.items() if key != "name"} if isinstance(value, dict) else None
        return Recipe.model_validate(fields or _fields(str(value)))
    except SchemeError:
        raise
    except (ValidationError, ValueError, TypeError) as error:
        found = unknown_scheme(value, reason_of(error))
        raise SchemeError(found.message, hint=RECIPE_GRAMMAR, details=found.details) from None


def known_recipes(names: Iterable[str]) -> list[Recipe]:
    """Those of the names that are schemes or recipes; of another engine's run some may not be.

    Example:
        >>> [recipe.name for recipe in known_recipes(["int4", "int4711", "w8a8+gptq"])]
        ['int4', 'w8a8+gptq']
    """
    found = []
    for name in names:
        try:
            found.append(parse_recipe(name))
        except SchemeError:
            continue
    return found


def _fields(name: str) -> dict[str, Any]:
    scheme, *steps = name.split("+")
    algorithms: list[AlgorithmStep] = []
    layers: dict[str, tuple[str, ...]] = {}
    for text in steps:
        word, *patterns = text.split(":")
        if word not in ("only", "skip"):
            algorithms.append(_step(text))
        elif word in layers or not patterns:
            raise ValueError(f"+{word} takes patterns, and is said once: +{word}:first:head")
        else:
            layers[word] = tuple(patterns)
    return {"scheme": parse_scheme(scheme), "algorithms": algorithms, "layers": layers}


def _step(text: str) -> AlgorithmStep:
    if _STEP.fullmatch(text) is None:
        raise ValueError(f"+{text} is no algorithm with options: +gptq:act_order=true")
    name, *options = text.split(":")
    given: dict[str, OptionValue] = {}
    for key, value in (option.split("=", 1) for option in options):
        if key in given:
            raise ValueError(f"+{name} is given {key} twice")
        given[key] = read_value(value)
    return AlgorithmStep(name=name, options=given)
