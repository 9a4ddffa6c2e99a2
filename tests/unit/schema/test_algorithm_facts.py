"""What is told of algorithms where there is no torch is what the engine says where there is."""

from __future__ import annotations

import itertools

import pytest

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.quantization import available_schemes, calibrated_by, check_recipe
from quant_lens_engine.quantization.catalog import available_algorithms
from quant_lens_engine.schema import AlgorithmFacts, Capabilities, parse_recipe
from quant_lens_engine.schema.recipe_check import calibrated_by_facts, check_recipe_by_facts

ALGORITHMS = available_algorithms()
# As a page reads them: written by a worker, read from JSON.
READ = Capabilities.model_validate_json(Capabilities(algorithms=ALGORITHMS).model_dump_json()).algorithms
SCHEMES = [facts.name for facts in available_schemes()]


def answer(check, recipe, *more):
    try:
        check(parse_recipe(recipe), *more)
    except SchemeError as error:
        return error.as_dict()
    return None


@pytest.mark.parametrize("algorithm", [facts.name for facts in ALGORITHMS])
def test_each_algorithm_is_refused_for_the_same_schemes_in_the_same_words(algorithm: str) -> None:
    for scheme in SCHEMES:
        recipe = f"{scheme}+{algorithm}"
        assert answer(check_recipe_by_facts, recipe, READ) == answer(check_recipe, recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        "int4+gtpq", "int4+gptq:actorder=true", "int4+gptq:damping=2", "int4+gptq:block=1.5",
        "int4+clip:smallest=0", "int4+fold-batchnorm:steps=3", "int4+gptq+adaround", "w8a8+qat+qat-sam", "float+gptq",
        "w8a8+smoothquant:alpha=1.5", "int4+qat-sam:rho=0",
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_recipe_is_told_in_the_engine_s_words(recipe: str) -> None:
    told = answer(check_recipe_by_facts, recipe, READ)
    assert told is not None
    assert told == answer(check_recipe, recipe)


@pytest.mark.parametrize(
    "recipe",
    ["int3+gptq:act_order=true:block=64", "w8a8+smoothquant:alpha=0.75+gptq+bias-correction", "float+qat:steps=9"],
)
def test_what_the_engine_takes_passes(recipe: str) -> None:
    assert answer(check_recipe_by_facts, recipe, READ) is None
    assert answer(check_recipe, recipe) is None


def test_before_a_worker_has_said_what_there_is_nothing_is_refused() -> None:
    assert answer(check_recipe_by_facts, "int4+no-such-algorithm", []) is None


def test_what_an_older_worker_did_not_say_is_let_through() -> None:
    older = [AlgorithmFacts(name="gptq", phase="round", options={"act_order": False})]
    assert answer(check_recipe_by_facts, "int4+gptq:act_order=true", older) is None


def test_float_weights_alone_are_no_variant() -> None:
    assert answer(check_recipe_by_facts, "float", READ)["code"] == "nothing_to_quantize"


def test_whether_calibration_rows_are_looked_at_is_known_without_torch() -> None:
    names = [facts.name for facts in ALGORITHMS]
    for scheme, algorithm in itertools.product(("int4", "w8a8", "w8a8-dynamic"), names):
        recipe = parse_recipe(f"{scheme}+{algorithm}")
        if answer(check_recipe, recipe.name) is None:
            assert calibrated_by_facts(recipe, READ) == calibrated_by(recipe)


def test_every_option_says_what_it_means() -> None:
    left_out = [f"{facts.name}:{item.name}" for facts in ALGORITHMS for item in facts.option_facts if not item.meaning]
    assert left_out == []
