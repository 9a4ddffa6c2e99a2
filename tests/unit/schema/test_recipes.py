"""Recipes: a scheme, algorithms and a choice of layers in one name; and run specifications that hold them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_lens_engine.analysis import analyze
from quant_lens_engine.errors import SchemeError, SpecError
from quant_lens_engine.quantization import available_schemes, calibrated_by, check_recipe, usual_options
from quant_lens_engine.quantization.algorithms import ALGORITHMS, PHASES
from quant_lens_engine.quantization.catalog import available_algorithms
from quant_lens_engine.schema import Recipe, RunSpec, parse_recipe, parse_run_spec, parse_scheme
from quant_lens_engine.schema.recipe_check import check_recipe_by_facts, spec_by_facts

NAMES = [facts.name for facts in available_schemes()]
WORDS = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.from_regex(r"[a-zA-Z/._-]{1,12}", fullmatch=True),
)
PATTERNS = st.lists(st.from_regex(r"[A-Za-z0-9_.*?\[\]-]{1,30}", fullmatch=True), max_size=4)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    names = draw(st.lists(st.sampled_from(list(ALGORITHMS)), max_size=3, unique=True))
    steps = [{"name": name, "options": draw(st.dictionaries(WORDS, VALUES, max_size=3))} for name in names]
    layers = {"only": draw(PATTERNS), "skip": draw(PATTERNS)}
    return parse_recipe({"scheme": draw(st.sampled_from(NAMES)), "algorithms": steps, "layers": layers})


@given(recipes())
@settings(max_examples=40)
def test_a_name_holds_the_whole_recipe(recipe: Recipe) -> None:
    again = parse_recipe(recipe.name)
    assert again == recipe
    assert again.name == recipe.name


@given(recipes())
@settings(max_examples=40)
def test_a_record_holds_the_whole_recipe(recipe: Recipe) -> None:
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert parse_recipe(json.loads(recipe.model_dump_json())) == recipe
    assert parse_recipe(recipe) is recipe


def test_parts_of_a_name() -> None:
    recipe = parse_recipe("int3-g64+skip:head:kind.Embedding+gptq:act_order=true:damping=0.05+only:blocks.*")
    assert recipe.scheme == parse_scheme("int3-g64")
    assert [(step.name, step.options) for step in recipe.algorithms] == [
        ("gptq", {"act_order": True, "damping": 0.05}),
    ]  # fmt: skip
    assert (recipe.layers.only, recipe.layers.skip) == (("blocks.*",), ("head", "kind.Embedding"))
    assert recipe.name == "int3-g64+gptq:act_order=true:damping=0.05+only:blocks.*+skip:head:kind.Embedding"


def test_a_scheme_is_a_recipe_without_algorithms() -> None:
    scheme = parse_scheme("int4-g128")
    for given_as in (scheme, "int4-g128", {"bits": 4, "group_size": 128}, {"scheme": "int4-g128"},
                     {"scheme": scheme.model_dump(mode="json"), "name": "of no matter"}):  # fmt: skip
        assert parse_recipe(given_as) == Recipe(scheme=scheme)
    assert parse_recipe(scheme).name == scheme.name


def test_options_have_the_type_that_they_are_written_in() -> None:
    options = parse_recipe("int4+qat:a=true:b=3:c=0.5:d=1e-5:e=text:f=1e20:g=nan").algorithms[0].options
    assert options == {"a": True, "b": 3, "c": 0.5, "d": 1e-5, "e": "text", "f": 1e20, "g": "nan"}
    assert [type(options[key]) for key in "abc"] == [bool, int, float]
    as_text = parse_recipe({"scheme": "int4", "algorithms": [{"name": "gptq", "options": {"damping": "0.05"}}]})
    assert as_text == parse_recipe("int4+gptq:damping=0.05")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("int3+gptq:act_order=TRUE", "int3+gptq:act_order=true"),
        ("int3+gptq:block=1e3", "int3+gptq:block=1000"),
        ("int3+gptq:block=64.0", "int3+gptq:block=064"),
        ("int3+gptq:damping=.050", "int3+gptq:damping=5e-2"),
        ("int3+clip:smallest=-0.0", "int3+clip:smallest=0"),
        ("int4+qat:steps=100000000000000000000", "int4+qat:steps=1e20"),
    ],
)
def test_a_value_has_one_spelling(one: str, other: str) -> None:
    assert parse_recipe(one) == parse_recipe(other)
    assert parse_recipe(one).name == parse_recipe(other).name
    with pytest.raises(SpecError, match="schemes named twice"):
        specification(one, other)


USUAL = {
    "gptq": ["act_order=false", "damping=0.01", "damping=1e-2", "block=128", "block=1.28E2", "sequential=True"],
    "adaround": ["regularization=10", "regularization=10.0"],
    "qat": ["learning_rate=0.0001", "held_out=.2"],
}


@pytest.mark.parametrize("step", [f"{name}:{option}" for name, options in USUAL.items() for option in options])
def test_an_option_that_has_its_usual_value_is_left_out(step: str) -> None:
    name = step.partition(":")[0]
    recipe = parse_recipe(f"int3+{step}+skip:head")
    assert recipe.without_usual(usual_options()).name == f"int3+{name}+skip:head"
    facts = available_algorithms()
    assert spec_by_facts(specification(recipe.name), facts).schemes[0].name == f"int3+{name}+skip:head"
    with pytest.raises(SchemeError) as refused:
        spec_by_facts(specification(f"int3+{name}+skip:head", recipe.name), facts)
    assert refused.value.code == "same_recipe"
    assert refused.value.details == {"recipes": [f"int3+{name}+skip:head", recipe.name]}
    assert repr(recipe.name) in refused.value.message


def test_what_is_not_the_usual_value_stays() -> None:
    name = "int3+gptq:act_order=true:block=64:damping=0.02"
    assert parse_recipe(f"{name}:sequential=true").without_usual(usual_options()).name == name
    assert parse_recipe("int4+my-own:block=128").without_usual(usual_options()).name == "int4+my-own:block=128"


def test_where_no_worker_has_said_what_it_can_do_a_run_is_as_it_was_asked_for() -> None:
    asked = specification("int3+gptq", "int3+gptq:block=128")
    assert spec_by_facts(asked, []) == asked


def test_the_engine_refuses_two_names_of_one_recipe() -> None:
    """Where no facts were at hand as the run was asked for."""
    with pytest.raises(SchemeError, match=r"'int3\+gptq' and 'int3\+gptq:block=128' are one recipe"):
        analyze({"model": {"example": "digits-mlp"}, "data": {"example": "digits"},
                 "schemes": ["int3+gptq", "int3+gptq:block=128"]})  # fmt: skip


@pytest.mark.parametrize(
    "value", ["act_order=yes", "act_order=1", "block=1_28", "block=١٢٨", "damping=nan", "damping=inf"]
)
def test_a_value_of_another_type_is_refused(value: str) -> None:
    """Rather than read: it would be a second name for one recipe."""
    recipe = parse_recipe(f"int3+gptq:{value}")
    with pytest.raises(SchemeError) as refused:
        check_recipe(recipe)
    assert refused.value.code == "bad_option"
    assert "act_order=false" in refused.value.hint
    with pytest.raises(SchemeError) as told:
        check_recipe_by_facts(recipe, available_algorithms())
    assert told.value.as_dict() == refused.value.as_dict()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("int4+gptq+gptq", "+gptq is said twice"),
        ("int4+skip", "+skip takes patterns"),
        ("int4+skip:a+skip:b", "said once"),
        ("int4+", "+ is no algorithm"),
        ("int4+GPTQ", "+GPTQ is no algorithm"),
        ("int4+gptq:act_order", "+gptq:act_order is no algorithm with options"),
        ("int4+gptq:block=1:block=2", "+gptq is given block twice"),
        ("int4+skip:a/b", "layers.skip.0"),
        ("+gptq", "unknown scheme ''"),
        ("int5000+gptq", "unknown scheme 'int5000'"),
    ],
)
def test_a_name_that_is_no_recipe(name: str, words: str) -> None:
    with pytest.raises(SchemeError) as refused:
        parse_recipe(name)
    assert words in refused.value.message
    assert refused.value.code == "unknown_scheme"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"scheme": "int4", "algorithms": [{"name": "gptq", "options": {"a": "b:c"}}]}, "a='b:c' cannot be said"),
        ({"scheme": "int4", "algorithms": [{"name": "gptq", "options": {"a b": 1}}]}, "a b=1 cannot be said"),
        ({"scheme": "int4", "algorithms": [{"name": "gptq", "options": {"a": ""}}]}, "a='' cannot be said"),
        ({"scheme": "int4", "algorithms": [{"name": "GPTQ"}]}, "algorithms.0.name"),
        ({"scheme": "int4", "layers": {"skip": ["a:b"]}}, "layers.skip.0"),
        ({"scheme": "int4", "steps": []}, "steps"),
        ({"scheme": "int4-q"}, "-q is not part of the grammar"),
        (7, "not a int"),
    ],
)
def test_a_record_that_is_no_recipe(record: Any, words: str) -> None:
    with pytest.raises(SchemeError) as refused:
        parse_recipe(record)
    assert words in refused.value.message


def test_algorithms_run_in_the_order_of_their_phases() -> None:
    named = parse_recipe("int4+qat:steps=3+bias-correction+gptq+clip+awq+equalize+fold-batchnorm")
    order = [name for name, _, _ in check_recipe(named)]
    assert order == ["fold-batchnorm", "equalize", "awq", "clip", "gptq", "bias-correction", "qat"]
    places = [(PHASES.index(algorithm.phase), algorithm.place) for _, algorithm, _ in check_recipe(named)]
    assert places == sorted(places)
    assert check_recipe(named)[-1][2].steps == 3


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("int4+gpqt", "unknown_algorithm", "gpqt"),
        ("int4+gptq:dampin=0.1", "bad_option", "dampin"),
        ("int4+gptq:damping=2", "bad_option", "damping"),
        ("int4+gptq:block=0", "bad_option", "block"),
        ("int4+gptq:act_order=perhaps", "bad_option", "act_order"),
        ("int4+clip:smallest=1", "bad_option", "smallest"),
        ("int4+bias-correction:steps=1", "bad_option", "steps"),
        ("int4+gptq+adaround", "clashing_algorithms", "gptq and adaround"),
        ("int4+qat+qat-sam", "clashing_algorithms", "qat and qat-sam"),
        ("nf4-g64+adaround", "not_defined", "adaround is not defined for nf4-g64"),
        ("w8a8+awq", "not_defined", "awq is not defined for w8a8"),
        ("int8+smoothquant", "not_defined", "smoothquant is not defined for int8"),
        ("w16a8+gptq", "not_defined", "gptq is not defined for w16a8"),
        ("w16a8+clip", "not_defined", "clip is not defined for w16a8"),
        ("float+equalize", "not_defined", "equalize is not defined for float"),
        ("float+fold-batchnorm", "not_defined", "fold-batchnorm is not defined for float"),
    ],
)
def test_an_algorithm_that_cannot_be(name: str, code: str, words: str) -> None:
    with pytest.raises(SchemeError) as refused:
        check_recipe(parse_recipe(name))
    assert refused.value.code == code
    assert words in refused.value.message
    assert refused.value.hint


def test_an_unknown_algorithm_suggests_the_nearest() -> None:
    with pytest.raises(SchemeError, match="unknown algorithm 'gpqt'") as refused:
        check_recipe(parse_recipe("int4+gpqt"))
    assert "did you mean gptq" in refused.value.hint
    assert refused.value.details == {"algorithm": "gpqt", "nearest": ["gptq"]}


def test_what_looks_at_calibration_rows() -> None:
    assert calibrated_by(parse_recipe("int4-g128+clip")) == []
    assert calibrated_by(parse_recipe("w8a8-dynamic+equalize")) == []
    assert calibrated_by(parse_recipe("w8a8+gptq+bias-correction")) == [
        "static activation ranges", "gptq", "bias-correction",
    ]  # fmt: skip


def test_every_algorithm_on_the_list_can_be_named_with_its_usual_options() -> None:
    for facts in available_algorithms():
        scheme = "w8a8" if facts.name == "smoothquant" else "int4"
        options = "".join(f":{key}={str(value).lower()}" for key, value in facts.options.items())
        found = check_recipe(parse_recipe(f"{scheme}+{facts.name}{options}"))
        assert [name for name, _, _ in found] == [facts.name]
        assert found[0][2].model_dump() == facts.options


# ---- run specifications


def specification(*schemes: Any) -> RunSpec:
    return parse_run_spec({"model": {"example": "digits-mlp"}, "data": {"example": "digits"}, "schemes": list(schemes)})


def test_a_run_takes_names_schemes_recipes_and_records() -> None:
    run = specification(
        "int8", parse_scheme("int4"), {"bits": 3, "group_size": 32}, parse_recipe("int2+gptq"),
        {"scheme": "w8a8", "algorithms": ["smoothquant:alpha=0.25"], "layers": {"skip": ["head"]}},
    )  # fmt: skip
    names = ["int8", "int4", "int3-g32", "int2+gptq", "w8a8+smoothquant:alpha=0.25+skip:head"]
    assert [recipe.name for recipe in run.schemes] == names
    assert json.loads(run.model_dump_json())["schemes"] == names


@given(st.lists(recipes(), min_size=1, max_size=3, unique_by=lambda recipe: recipe.name))
@settings(max_examples=20)
def test_a_run_is_the_same_after_a_trip_through_json(found: list[Recipe]) -> None:
    run = specification(*found)
    assert parse_run_spec(json.loads(run.model_dump_json())) == run
    assert list(run.schemes) == found


@pytest.mark.parametrize(
    ("schemes", "error", "words"),
    [
        (["int8", {"bits": 8}], SpecError, "schemes named twice: int8"),
        (["w8a8", "int8-act-int8"], SpecError, "schemes named twice: w8a8"),
        (["int8-q"], SchemeError, "-q is not part of the grammar"),
        ([], SpecError, "schemes"),
        ([None], SchemeError, "NoneType"),
    ],
)
def test_a_run_refuses(schemes: list[Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        specification(*schemes)
