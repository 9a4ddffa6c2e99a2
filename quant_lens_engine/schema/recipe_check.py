"""A recipe held against what a worker's engine can do, where there is no engine: by the facts in its capabilities.

The facts also say which options have their usual values: without these, recipes that mean the same have the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.schema.algorithms import (
    AlgorithmFacts,
    not_defined,
    options_model,
    read_options,
    refuse_clashes,
    rounds_nothing,
    unknown_algorithm,
)
from quant_lens_engine.schema.recipe import Recipe
from quant_lens_engine.schema.run_spec import RunSpec


def check_recipe_by_facts(recipe: Recipe, algorithms: Sequence[AlgorithmFacts]) -> None:
    """Raise what the engine would raise, as far as the facts say; nothing where there are none yet.

    Raises:
        SchemeError: ``unknown_algorithm``, ``bad_option``, ``not_defined``, ``clashing_algorithms``, or
            ``nothing_to_quantize``.

    Example:
        >>> from quant_lens_engine.schema import parse_recipe
        >>> check_recipe_by_facts(parse_recipe("int4+gtpq"), [AlgorithmFacts(name="gptq")])
        Traceback (most recent call last):
        ...
        quant_lens_engine.errors.SchemeError: unknown algorithm 'gtpq' in 'int4+gtpq'
        did you mean gptq? known: gptq
    """
    if not algorithms:
        return
    known = {facts.name: facts for facts in algorithms}
    for step in recipe.algorithms:
        if step.name not in known:
            raise unknown_algorithm(step.name, recipe.name, list(known))
        facts = known[step.name]
        for refusal in facts.refusals:
            if (refusal.format, refusal.activations) == (recipe.scheme.format, recipe.scheme.activations is not None):
                raise not_defined(step.name, recipe.scheme.name, refusal.reason, refusal.hint)
        if facts.option_facts or not facts.options:  # an older worker says their usual values, and no more
            read_options(step.name, options_model(facts.option_facts), step.options)
    phases = [(step.name, known[step.name].phase) for step in recipe.algorithms]
    refuse_clashes(recipe.name, phases)
    trains = any(phase == "train" for _, phase in phases)
    if recipe.scheme.format == "float" and not recipe.scheme.rounds_activations and not trains:
        raise rounds_nothing(recipe.name)


def usual_options(algorithms: Sequence[AlgorithmFacts]) -> dict[str, dict[str, Any]]:
    """Of each algorithm, the usual values of its options."""
    return {
        facts.name: facts.options | {item.name: item.default for item in facts.option_facts} for facts in algorithms
    }


def distinct_recipes(recipes: Sequence[Recipe], usual: Mapping[str, Mapping[str, Any]]) -> tuple[Recipe, ...]:
    """The recipes of one run by their shortest names.

    Args:
        recipes: as they were asked for.
        usual: of each algorithm, the usual values of its options.

    Raises:
        SchemeError: ``same_recipe``: two of them mean the same.

    Example:
        >>> from quant_lens_engine.schema import parse_recipe
        >>> twice = [parse_recipe(name) for name in ("int3+gptq", "int3+gptq:block=128")]
        >>> distinct_recipes(twice, {"gptq": {"block": 128}})
        Traceback (most recent call last):
        ...
        quant_lens_engine.errors.SchemeError: 'int3+gptq' and 'int3+gptq:block=128' are one recipe
        an option that has its usual value changes nothing: leave one of them out
    """
    found: dict[str, Recipe] = {}
    asked: dict[str, str] = {}
    for recipe in recipes:
        shortest = recipe.without_usual(usual)
        if shortest.name in found:
            names = [asked[shortest.name], recipe.name]
            raise SchemeError(
                f"{names[0]!r} and {names[1]!r} are one recipe",
                hint="an option that has its usual value changes nothing: leave one of them out",
                code="same_recipe",
                details={"recipes": names},
            )
        found[shortest.name], asked[shortest.name] = shortest, recipe.name
    return tuple(found.values())


def spec_by_facts(spec: RunSpec, algorithms: Sequence[AlgorithmFacts]) -> RunSpec:
    """The run with its recipes checked, and by their shortest names; as it is where there are no facts yet.

    Raises:
        SchemeError: what :func:`check_recipe_by_facts` raises, or ``same_recipe``.

    Example:
        >>> from quant_lens_engine.schema import OptionFacts
        >>> gptq = AlgorithmFacts(name="gptq", option_facts=[OptionFacts(name="block", kind="whole", default=128)])
        >>> asked = RunSpec(model={"example": "a"}, data={"example": "b"}, schemes=["int3+gptq:block=128"])
        >>> spec_by_facts(asked, [gptq]).schemes[0].name
        'int3+gptq'
    """
    for recipe in spec.schemes:
        check_recipe_by_facts(recipe, algorithms)
    return spec.model_copy(update={"schemes": distinct_recipes(spec.schemes, usual_options(algorithms))})


def calibrated_by_facts(recipe: Recipe, algorithms: Sequence[AlgorithmFacts]) -> list[str]:
    """What of a recipe looks at calibration rows; empty where nothing does.

    Example:
        >>> from quant_lens_engine.schema import parse_recipe
        >>> gptq = AlgorithmFacts(name="gptq", needs_calibration=True)
        >>> calibrated_by_facts(parse_recipe("w8a8+gptq"), [gptq])
        ['static activation ranges', 'gptq']
    """
    looking = {facts.name for facts in algorithms if facts.needs_calibration}
    static = ["static activation ranges"] if recipe.scheme.needs_calibration else []
    return static + [step.name for step in recipe.algorithms if step.name in looking]
