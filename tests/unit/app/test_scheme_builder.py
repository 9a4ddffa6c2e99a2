"""The scheme builder: fields to a name, and every field that the callbacks read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pages.new.builder import builder
from app.pages.new.builder_callbacks import NUMBER_FIELDS, OTHER_FIELDS, fields_of, problem_of, told
from app.pages.new.builder_fields import BuilderFields, NumberFields, build, kv_suffixes
from quant_lens_engine.quantization.catalog import available_algorithms, available_observers
from quant_lens_engine.schema import Capabilities, parse_recipe, parse_scheme
from quant_lens_engine.schema.format_choices import activation_choices, weight_choices
from tests.unit.app.words import words

ALGORITHMS = available_algorithms()
PLAIN = BuilderFields(weights=NumberFields(bits=8, sharing="channel"))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (PLAIN, "int8"),
        (replace(PLAIN, weights=NumberFields(bits=4, sharing="group", group=8, mapping="asymmetric")), "int4-g8-asym"),
        (replace(PLAIN, weights=NumberFields(bits=4, sharing="tensor", mapping="full")), "int4-tensor-full"),
        (replace(PLAIN, weights=NumberFields(format="fp8-e4m3", sharing="block", group=128)), "fp8-e4m3-b128"),
        (replace(PLAIN, weights=NumberFields(format="mxfp4", sharing="group", group=7)), "mxfp4"),
        (replace(PLAIN, weights=NumberFields(format="codebook", levels="-1, 0  1;2")), "codebook[-1:0:1:2]"),
        (replace(PLAIN, ranges="static"), "w8a8"),
        (replace(PLAIN, ranges="static", observer="percentile"), "w8a8-percentile"),
        (replace(PLAIN, ranges="dynamic", observer="percentile"), "w8a8-dynamic"),
        (replace(PLAIN, ranges="dynamic", activations=NumberFields(mapping="asymmetric")),
         "int8-act-int8-asym-dynamic"),
        (replace(PLAIN, ranges="dynamic", kv="kv4", attention=True), "w8a8-dynamic-kv4-attn"),
        (replace(PLAIN, weights=NumberFields(format="float"), ranges="static"), "w16a8"),
        (replace(PLAIN, weights=NumberFields(format="nvfp4"), ranges="static",
                 activations=NumberFields(format="nvfp4")), "w4a4-nvfp4"),
        (replace(PLAIN, algorithms=("gptq", "awq"), options={("gptq", "act_order"): "true", ("awq", "steps"): " "},
                 first=True, head=True, patterns="blocks.*.proj, kind.Embedding"),
         "int8+awq+gptq:act_order=true+skip:first:head:blocks.*.proj:kind.Embedding"),
        (replace(PLAIN, algorithms=("gptq",), options={("gptq", "block"): "128"}), "int8+gptq"),
    ],
)  # fmt: skip
def test_fields_make_a_name(fields: BuilderFields, name: str) -> None:
    built = build(fields, ALGORITHMS)
    assert (built.name, built.problem) == (name, "")
    assert parse_recipe(built.name).name == name
    assert "calibration" in dict(built.parts)


@pytest.mark.parametrize(
    ("fields", "problem", "hint"),
    [
        (replace(PLAIN, algorithms=("smoothquant",)), "smoothquant is not defined for int8", "w8a8"),
        (replace(PLAIN, algorithms=("gptq", "adaround")), "adaround and gptq clash", "name one of them"),
        (replace(PLAIN, algorithms=("gptq",), options={("gptq", "damping"): "2"}), "less than 1", "usual values"),
        (replace(PLAIN, weights=NumberFields(format="float")), "float rounds nothing", "FP32"),
        (replace(PLAIN, weights=NumberFields(format="codebook", levels="1, 0")), "ascend", ""),
        (replace(PLAIN, attention=True), "-attn rounds what attention multiplies", ""),
        (replace(PLAIN, patterns="fc1/2"), "match pattern", "+skip"),
    ],
)
def test_what_is_wrong_is_told_by_the_parser(fields: BuilderFields, problem: str, hint: str) -> None:
    built = build(fields, ALGORITHMS)
    assert problem in built.problem
    assert hint in built.hint
    assert told(built) is None
    assert built.problem[1:] in words(problem_of(built))


def numbers(choices):
    formats = st.sampled_from([item.name for item in choices])
    return st.builds(
        NumberFields, format=formats, bits=st.sampled_from([None, 2, 4, 8]), levels=st.just("-1 0 1"),
        sharing=st.sampled_from(["", "tensor", "channel", "group", "block", "token"]),
        group=st.sampled_from([None, 32, 128]), mapping=st.sampled_from(["", "symmetric", "full", "asymmetric"]),
    )  # fmt: skip


@given(
    st.builds(
        BuilderFields,
        weights=numbers(weight_choices()),
        ranges=st.sampled_from(["none", "static", "dynamic"]),
        activations=numbers(activation_choices(dynamic=True)),
        observer=st.sampled_from(["", "min-max", "mse"]),
        kv=st.sampled_from(["", "kv8", "kv-fp8-e4m3"]),
    )
)
def test_whatever_the_form_offers_has_a_name(fields: BuilderFields) -> None:
    built = build(fields, ALGORITHMS)
    if built.problem:  # nothing is rounded: the only thing that the form lets one choose and the grammar refuses
        assert "rounds nothing" in built.problem
    else:
        assert parse_recipe(built.name).name == built.name


def test_keys_and_values_can_have_each_format_on_offer() -> None:
    for suffix, label in kv_suffixes():
        assert label == label.upper()
        assert parse_scheme(f"int8-{suffix}").kv is not None


def test_the_callback_reads_every_field_of_the_form() -> None:
    form = str(builder(Capabilities(algorithms=ALGORITHMS, observers=available_observers())))
    ids = [f"builder-{name}" for name in NUMBER_FIELDS] + [f"builder-act-{name}" for name in NUMBER_FIELDS]
    for id_ in [*ids, *OTHER_FIELDS]:
        assert f"id='{id_}'" in form
    for facts in ALGORITHMS:
        for item in facts.option_facts:
            assert f"'algorithm': '{facts.name}', 'option': '{item.name}'" in form
    weights = ["integer", "4", None, "group", 64, "asymmetric"]
    values = [*weights, *[None] * 6, "none", "min-max", "", False, ["gptq"], True, False, "fc*"]
    assert build(fields_of(values, {}), ALGORITHMS).name == "int4-g64-asym+gptq+skip:first:fc*"


def test_before_a_worker_has_said_anything_the_form_is_there() -> None:
    assert "No worker has said yet which algorithms there are." in str(builder(Capabilities()))
