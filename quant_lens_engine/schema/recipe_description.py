"""A recipe in words: its name in a sentence, and how a variant is made of it, part by part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema.algorithms import AlgorithmFacts
from quant_lens_engine.schema.recipe import AlgorithmStep, LayerChoice, Recipe, parse_recipe
from quant_lens_engine.schema.run_result import Variant
from quant_lens_engine.schema.scheme_description import scheme_parts

_TITLES = {
    "adaround": "AdaRound", "awq": "AWQ", "bias-correction": "bias correction", "clip": "MSE clipping",
    "equalize": "equalization", "fold-batchnorm": "BatchNorm folding", "gptq": "GPTQ", "qat": "QAT",
    "qat-sam": "QAT with SAM", "smoothquant": "SmoothQuant",
}  # fmt: skip
"""How the field writes an algorithm's name; another one is written as it is."""

_FORMAT_WORD = re.compile(r"int\d+|w\d+a\d+(kv\d+)?|kv\d+|fp\d+|e\dm\d|nf\d|nvfp\d|mxfp\d|mxint\d")
"""The words of a scheme's name that are number formats; flags such as ``g128`` and ``asym`` are not."""


def display_name(name: str) -> str:
    """A variant's name in a sentence: number formats in capitals, algorithms as the field writes them.

    Example:
        >>> display_name("int8"), display_name("int4-g128-asym"), display_name("my model")
        ('INT8', 'INT4-g128-asym', 'my model')
        >>> display_name("w8a8-fp8-dynamic"), display_name("mxfp6-e2m3"), display_name("int3+gptq:act_order=true")
        ('W8A8-FP8-dynamic', 'MXFP6-E2M3', 'INT3 + GPTQ (act_order=true)')
        >>> display_name("w8a8+smoothquant+bias-correction+skip:first:head")
        'W8A8 + SmoothQuant + bias correction (skips first, head)'
        >>> display_name("float+qat"), display_name("my model+2")
        ('float + QAT', 'my model+2')
    """
    scheme, *steps = name.split("+")
    if not _names_a_scheme(scheme):
        return name
    said = "-".join(word.upper() if _FORMAT_WORD.fullmatch(word) else word for word in scheme.split("-"))
    for step in steps:
        word, *parts = step.split(":")
        if word in ("skip", "only"):
            said += f" ({'skips' if word == 'skip' else 'only'} {', '.join(parts)})"
        else:
            said += f" + {algorithm_title(word)}" + (f" ({', '.join(parts)})" if parts else "")
    return said


def _names_a_scheme(text: str) -> bool:
    """Rather than a model that somebody quantized and named."""
    first = text.partition("-")[0]
    return _FORMAT_WORD.fullmatch(first) is not None or first == "float" or first.startswith("codebook[")


def sentence_names(names: Sequence[str]) -> dict[str, str]:
    """Each name in a sentence; options and choices of layers only where two would read the same without them.

    Example:
        >>> sentence_names(["int3+gptq", "int3+gptq:block=64"])["int3+gptq:block=64"]
        'INT3 + GPTQ (block=64)'
        >>> sentence_names(["w8a8+smoothquant:alpha=0.7+skip:head"])
        {'w8a8+smoothquant:alpha=0.7+skip:head': 'W8A8 + SmoothQuant'}
    """
    plain = {name: without_details(name) for name in names}
    often = Counter(plain.values())
    return {name: display_name(plain[name] if often[plain[name]] == 1 else name) for name in names}


def without_details(name: str) -> str:
    """A recipe's scheme and algorithms, without their options and without the choice of layers.

    Example:
        >>> without_details("w8a8+smoothquant:alpha=0.7+skip:head")
        'w8a8+smoothquant'
    """
    scheme, *steps = name.split("+")
    if not _names_a_scheme(scheme):
        return name
    words = [step.partition(":")[0] for step in steps]
    return "+".join([scheme, *(word for word in words if word not in ("skip", "only"))])


def algorithm_title(name: str) -> str:
    """An algorithm's name as the field writes it.

    Example:
        >>> algorithm_title("gptq"), algorithm_title("my-rounding")
        ('GPTQ', 'my-rounding')
    """
    return _TITLES.get(name, name)


def recipe_parts(recipe: Recipe, algorithms: Sequence[AlgorithmFacts] = ()) -> list[tuple[str, str]]:
    """How a variant is made, part by part: weights, activations, algorithms in their order, layers left in float.

    Args:
        recipe: the recipe.
        algorithms: what is known of them, for a line on each.

    Example:
        >>> recipe_parts(parse_recipe("int4-g128+skip:head"))[1:]
        [('rounding', 'to the nearest code (RTN)'), ('left in float', 'the layer that runs last')]
    """
    (_, weights), *others = scheme_parts(recipe.scheme)
    parts = [("weights", weights), *others]
    known = {facts.name: facts.description for facts in algorithms}
    for step in recipe.algorithms:
        parts.append((algorithm_title(step.name), step_words(step, known.get(step.name, ""))))
    if not recipe.algorithms and recipe.scheme.format != "float":
        parts.append(("rounding", "to the nearest code (RTN)"))
    return parts + layer_parts(recipe.layers)


def step_words(step: AlgorithmStep, description: str = "") -> str:
    """What an algorithm does, and the options that are not its usual ones.

    Example:
        >>> step_words(AlgorithmStep(name="gptq", options={"act_order": True}), "columns one by one")
        'columns one by one; act_order=true'
    """
    options = [part for part in step.text.split(":")[1:] if part]
    return "; ".join(part for part in (description, ", ".join(options)) if part) or "with its usual options"


def layer_parts(choice: LayerChoice) -> list[tuple[str, str]]:
    """Which layers are chosen, and which are not."""
    parts = []
    if choice.only:
        parts.append(("quantized are only", ", ".join(map(pattern_words, choice.only))))
    if choice.skip:
        parts.append(("left in float", ", ".join(map(pattern_words, choice.skip))))
    return parts


def pattern_words(pattern: str) -> str:
    """A pattern of layers in words.

    Example:
        >>> pattern_words("first"), pattern_words("kind.Embedding"), pattern_words("blocks.*.proj")
        ('the layer that runs first', 'every Embedding', 'blocks.*.proj')
    """
    if pattern.startswith("kind."):
        return f"every {pattern.removeprefix('kind.')}"
    return {"first": "the layer that runs first", "head": "the layer that runs last"}.get(pattern, pattern)


def recipe_of(variant: Variant) -> Recipe | None:
    """The recipe of a variant of a result; None for the float model, a custom model, or one of an engine to come.

    Example:
        >>> recipe_of(Variant(name="FP32")) is None
        True
    """
    if variant.scheme is None:
        return None
    try:
        return parse_recipe(
            {"scheme": variant.scheme, "algorithms": variant.algorithms, "layers": variant.layer_choice}
        )
    except QuantLensError:
        return None
