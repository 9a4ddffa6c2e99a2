"""Schemes and recipes in words, and the form that follows from the formats."""

from __future__ import annotations

import itertools

import pytest

from quant_lens_engine.quantization import available_schemes
from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema import AlgorithmFacts, QuantizationScheme, Variant, parse_recipe, parse_scheme
from quant_lens_engine.schema.format_choices import activation_choices, weight_choices
from quant_lens_engine.schema.number_format import ActivationFormat
from quant_lens_engine.schema.recipe_description import display_name, recipe_of, recipe_parts
from quant_lens_engine.schema.scheme_description import COMMON, FAMILIES


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("int8", "INT8"), ("w8a8", "W8A8"), ("nvfp4", "NVFP4"), ("fp8-e4m3", "FP8-E4M3"), ("nf4-g64", "NF4-g64"),
        ("fp8-e4m3-b128", "FP8-E4M3-b128"), ("mxfp8-e4m3", "MXFP8-E4M3"), ("mxint8", "MXINT8"), ("w16a8", "W16A8"),
        ("w8a8-dynamic-kv8", "W8A8-dynamic-KV8"), ("w4a4-nvfp4", "W4A4-NVFP4"), ("int3+gptq", "INT3 + GPTQ"),
        ("w8a8-percentile+smoothquant:alpha=0.7", "W8A8-percentile + SmoothQuant (alpha=0.7)"),
        ("int4+skip:first:head", "INT4 (skips first, head)"), ("int4+only:fc*+clip", "INT4 (only fc*) + MSE clipping"),
        ("Int8", "Int8"), ("my int8", "my int8"), ("dynamic", "dynamic"), ("FP32", "FP32"),
    ],
)  # fmt: skip
def test_names_in_a_sentence(name: str, said: str) -> None:
    assert display_name(name) == said


def test_a_recipe_is_told_part_by_part() -> None:
    known = [AlgorithmFacts(name="smoothquant", description="outliers moved"), AlgorithmFacts(name="gptq")]
    parts = recipe_parts(parse_recipe("w4a8-g128+smoothquant+gptq:act_order=true+skip:kind.Embedding:head"), known)
    assert parts == [
        ("weights", "INT4, symmetric; fp16 scale = amax / 7, one for 128 weights of a channel"),
        ("activations", "INT8, asymmetric, static, one scale a tensor (min-max)"),
        ("SmoothQuant", "outliers moved"),
        ("GPTQ", "act_order=true"),
        ("left in float", "every Embedding, the layer that runs last"),
    ]


@pytest.mark.parametrize("name", ["int4", "w8a8-percentile+smoothquant:alpha=0.7+skip:head", "codebook[-1:0:1]-g8"])
def test_a_result_s_variant_is_read_back_as_its_recipe(name: str) -> None:
    recipe = parse_recipe(name)
    variant = Variant(
        name="as the user calls it",
        scheme={"name": recipe.scheme.name, **recipe.scheme.model_dump(mode="json")},
        algorithms=[step.model_dump() for step in recipe.algorithms],
        layer_choice={key: list(value) for key, value in recipe.layers.model_dump().items() if value},
    )
    assert recipe_of(variant) == recipe
    assert recipe_of(Variant(name="x", scheme={"format": "of tomorrow", "bits": 4})) is None


def test_what_is_common_is_offered_and_stands_first_in_its_family() -> None:
    schemes = available_schemes()
    assert {facts.name for facts in schemes if facts.common} == set(COMMON)
    assert [facts.family for facts in schemes] == sorted((facts.family for facts in schemes), key=list(FAMILIES).index)
    for family in FAMILIES:
        common = [facts.common for facts in schemes if facts.family == family]
        assert common == sorted(common, reverse=True)
        assert 0 < sum(common) <= 6


def test_the_form_has_every_format_with_choices_that_it_takes() -> None:
    choices = {item.name: item for item in weight_choices()}
    assert set(choices) == set(QUANTIZERS)
    for item in choices.values():
        for bits, sharing, mapping in itertools.product(item.widths or (None,), item.sharing, item.mappings):
            size = (item.group_sizes or (128,))[0]
            flags = {"channel": "", "tensor": "-tensor", "group": f"-g{size}", "block": f"-b{size}"}[sharing]
            flags = "" if item.name == "float" else flags
            flags += {"symmetric": "", "full": "-full", "asymmetric": "-asym"}[mapping]
            scheme = parse_scheme(item.stem(bits, ["-1", "0", "1"]) + flags)
            assert isinstance(scheme, QuantizationScheme)
            assert (scheme.format, scheme.granularity) == (item.name, sharing)


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_form_of_activations_begins_with_what_is_usual(dynamic: bool) -> None:
    integer = {item.name: item for item in activation_choices(dynamic)}["integer"]
    usual = ActivationFormat(bits=8, dynamic=dynamic)
    assert integer.sharing[0] == usual.granularity
    assert integer.mappings[0] == ("symmetric" if usual.symmetric else "asymmetric")
