"""A recipe held against what a worker's engine can do, where there is no engine: by the facts in its capabilities."""

from __future__ import annotations

from collections.abc import Sequence

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.schema.algorithms import (
    AlgorithmFacts,
    not_defined,
    options_model,
    read_options,
    refuse_clashes,
    unknown_algorithm,
)
from quant_lens_engine.schema.recipe import Recipe


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
        raise SchemeError(f"{recipe.name} rounds nothing", hint="FP32 is always measured", code="nothing_to_quantize")


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
