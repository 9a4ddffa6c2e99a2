"""Names of schemes and their records say the same, whatever is asked for; what cannot be says which part clashes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.quantization import available_schemes
from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema import ActivationFormat, QuantizationScheme, parse_scheme

FIXED = [name for name, quantizer in QUANTIZERS.items() if quantizer.defaults.get("granularity") == "group"]
FREE = ["integer", "nf4", "codebook", "fp8-e4m3", "fp8-e5m2"]
SCALES = ["float32", "float16", "e8m0"]


@st.composite
def codebooks(draw: st.DrawFn) -> tuple[float, ...]:
    steps = draw(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=20))
    levels = [draw(st.floats(-3, -0.01))]
    for step in steps:
        levels.append(levels[-1] + step)
    levels += [] if levels[-1] > 0 else [0.5]  # of both signs
    size = draw(st.sampled_from([1e-30, 1.0, 3.0, 1e20]))
    return tuple(level * size for level in levels)


@st.composite
def elements(draw: st.DrawFn) -> dict[str, Any]:
    """Codes, and how their scales are stored; some fields are left out."""
    name = draw(st.sampled_from(FREE))
    fields: dict[str, Any] = {"format": name}
    if name == "integer":
        fields["bits"] = draw(st.sampled_from([*range(2, 9), 16]))
        fields |= draw(st.sampled_from([{}, {"symmetric": True}, {"symmetric": False}, {"full_range": True}]))
        if fields.get("full_range"):
            fields["symmetric"] = True
    if name == "codebook":
        levels = draw(codebooks())
        fields |= {"levels": levels, "bits": max(1, (len(levels) - 1).bit_length())}
    return fields | draw(
        st.one_of(st.just({}), st.builds(lambda dtype: {"scale_dtype": dtype}, st.sampled_from(SCALES)))
    )


def shared(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """What shares a scale."""
    sizes = st.integers(2, 300)
    choices = [st.just({"granularity": name}) for name in names if name not in ("group", "block")]
    if "group" in names:
        choices.append(st.builds(lambda size: {"group_size": size}, sizes))
    if "block" in names:
        choices.append(st.builds(lambda size: {"granularity": "block", "group_size": size}, sizes))
    return st.one_of(st.just({}), *choices)


@st.composite
def activations(draw: st.DrawFn, dynamic: bool | None = None) -> dict[str, Any]:
    live = draw(st.booleans()) if dynamic is None else dynamic
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(FIXED)) if live else "nvfp4"
        fields = {"format": name}
    else:
        fields = draw(elements()) | draw(shared("tensor", "token", "group") if live else st.just({}))
    if live:
        return fields | {"dynamic": True}
    chosen = draw(st.one_of(st.none(), st.sampled_from(list(OBSERVERS))))
    return fields | ({} if chosen is None else {"observer": chosen}) | {"dynamic": False}


@st.composite
def schemes(draw: st.DrawFn) -> QuantizationScheme:
    weights = st.one_of(
        st.builds(dict.__or__, elements(), shared("tensor", "channel", "group", "block")),
        st.sampled_from([{"format": name} for name in [*FIXED, "float"]]),
    )
    fields = draw(weights)
    if draw(st.booleans()):
        fields["activations"] = draw(activations())
        fields["attention"] = draw(st.booleans())
    if draw(st.booleans()):
        fields["kv"] = draw(activations(dynamic=True))
    return parse_scheme(fields)


@given(schemes())
def test_a_name_holds_the_whole_scheme(scheme: QuantizationScheme) -> None:
    again = parse_scheme(scheme.name)
    assert again == scheme
    assert again.name == scheme.name
    assert "+" not in scheme.name


@given(schemes())
def test_a_record_holds_the_whole_scheme(scheme: QuantizationScheme) -> None:
    assert QuantizationScheme.model_validate_json(scheme.model_dump_json()) == scheme
    assert parse_scheme(scheme.model_dump(mode="json")) == scheme
    assert parse_scheme(scheme) is scheme


@given(st.permutations(["g64", "asym", "fp32scales"]), st.permutations(["dynamic", "tensor", "asym", "fp16scales"]))
def test_the_order_of_flags_is_no_matter(weights: list[str], of_activations: list[str]) -> None:
    named = parse_scheme(f"int4-{'-'.join(weights)}-act-int8-{'-'.join(of_activations)}")
    assert named.name == "int4-g64-asym-fp32scales-act-int8-tensor-asym-fp16scales-dynamic"


def test_what_is_said_short_is_what_is_said_long() -> None:
    for short, long in {
        "w8a8": "int8-act-int8-asym-static",
        "w4a8-g128-dynamic": "int4-g128-act-int8-token-sym-dynamic",
        "w8a8-percentile": "int8-act-int8-percentile",
        "w8a8-fp8": "fp8-e4m3-act-fp8-e4m3",
        "w8a8-fp8-e5m2-tensor": "fp8-e5m2-tensor-act-fp8-e5m2",
        "w4a4-mxfp4": "mxfp4-act-mxfp4",
        "w4a4-nvfp4": "nvfp4-act-nvfp4-static",
        "w16a8": "float-act-int8",
        "w8a8kv4-attn": "int8-act-int8-kv4-attn",
        "w8a8-kv8": "int8-act-int8-kv-int8-token",
        "int4-g128-fp16scales": "int4-g128",
        "mxfp4-g32-e8m0scales": "mxfp4",
        "codebook[-1:-0:1e0]": "codebook[-1:0:1]",
    }.items():
        assert parse_scheme(short) == parse_scheme(long), short
        assert parse_scheme(short).name == parse_scheme(long).name


def test_usual_values_of_weights() -> None:
    """Per channel in fp32, groups in fp16; symmetric and narrow."""
    plain, groups = parse_scheme("int4"), parse_scheme("int4-g64")
    assert (plain.granularity, plain.scale_dtype, plain.symmetric, plain.full_range) == (
        "channel", "float32", True, False,
    )  # fmt: skip
    assert (groups.granularity, groups.scale_dtype) == ("group", "float16")
    assert parse_scheme("fp8-e4m3-b128").scale_dtype == "float32"
    assert (parse_scheme("mxfp4").group_size, parse_scheme("nvfp4").group_size) == (32, 16)


def test_usual_values_of_activations() -> None:
    """Static: one affine scale a tensor by minimum and maximum; dynamic: symmetric, a token."""
    static, live = (parse_scheme(name).activations for name in ("w8a8", "w8a8-dynamic"))
    assert static is not None
    assert live is not None
    assert (static.granularity, static.symmetric, static.observer) == ("tensor", False, "min-max")
    assert (live.granularity, live.symmetric, live.observer) == ("token", True, None)
    assert ActivationFormat(format="mxfp4").dynamic
    assert not ActivationFormat(format="nvfp4").dynamic


def test_only_static_ranges_need_calibration() -> None:
    needing = {name for name in ("int4", "w8a8", "w8a8-dynamic", "w4a4-mxfp4", "w4a4-nvfp4", "w16a8", "int8-kv8")
               if parse_scheme(name).needs_calibration}  # fmt: skip
    assert needing == {"w8a8", "w4a4-nvfp4", "w16a8"}
    rounding = {name for name in ("int4", "w8a8", "int8-kv8") if parse_scheme(name).rounds_activations}
    assert rounding == {"w8a8", "int8-kv8"}


def test_every_scheme_on_offer_is_its_own_canonical_name() -> None:
    for facts in available_schemes():
        assert parse_scheme(facts.name).name == facts.name
        assert parse_scheme(facts.name).needs_calibration == facts.needs_calibration


CLASHES = {
    "int4-g32-g64": ["-g64 clashes with -g32"],
    "int4-g32-tensor": ["-tensor clashes with -g32"],
    "int4-tensor-b4": ["-b4 clashes with -tensor"],
    "int4-asym-asym": ["-asym is said twice"],
    "int8-asym-full": ["-asym clashes with -full"],
    "int4-fp16scales-fp32scales": ["-fp32scales clashes with -fp16scales"],
    "int4-sym": ["-sym", "activations only"],
    "int4-dynamic": ["-dynamic", "activations only"],
    "int4-percentile": ["-percentile", "activations only"],
    "int4-q": ["-q is not part of the grammar"],
    "int4-g1": ["group_size"],
    "int9": ["int9", "2 to 8 bits"],
    "fp8-e4m3-asym": ["-asym clashes with fp8-e4m3"],
    "fp8-e4m3-full": ["-full clashes with fp8-e4m3"],
    "mxfp4-g16": ["mxfp4", "blocks of 32"],
    "mxfp4-tensor": ["mxfp4", "blocks of 32"],
    "mxfp4-fp16scales": ["mxfp4", "e8m0"],
    "nvfp4-g32": ["nvfp4", "blocks of 16"],
    "nvfp4-e8m0scales": ["nvfp4", "e4m3"],
    "nf4-asym": ["-asym", "nf4"],
    "float-g32": ["float weights"],
    "int4-act-float": ["activations that stay in float"],
    "int4-act-int8-token": ["-token", "static"],
    "int4-act-int8-dynamic-static": ["-static clashes with -dynamic"],
    "int4-act-int8-dynamic-mse": ["-mse clashes with -dynamic"],
    "int4-act-int8-mse-entropy": ["-entropy clashes with -mse"],
    "int4-act-mxfp4-static": ["mxfp4", "dynamic"],
    "int4-act-int8-g32-static": ["groups of int8", "dynamic"],
    "w4a8-fp8": ["fp8-e4m3 has 8 bits, not 4"],
    "w8a4-mxfp4": ["mxfp4 has 4 bits, not 8"],
    "w4a8-nf4": ["nf4 has 4 bits, not 8"],
    "int0": ["int0: integer schemes have 2 to 8 bits"],
    "int33": ["int33: integer schemes have 2 to 8 bits"],
    "w0a8": ["int0: integer schemes"],
    "w8a8-kv0": ["int0: integer schemes"],
    "w0a8-fp8": ["fp8-e4m3 has 8 bits, not 0"],
    "w16a8-tensor": ["float weights have no scale"],
    "float-tensor": ["float weights have no scale"],
    "w16a8-fp32scales": ["float weights have no scale"],
    "int٤": ["does not follow the grammar"],
    "w٨a٨": ["does not follow the grammar"],
    "int4-g١٢٨": ["-g١٢٨ is not part of the grammar"],
    "int4-b١٢٨": ["-b١٢٨ is not part of the grammar"],
    "w8a8-kv٤": ["not part of the grammar"],
    "codebook[-١:0:1]": ["list of numbers"],
    "codebook[-1_0:0:1]": ["list of numbers"],
    "codebook[-1: 0:1]": ["list of numbers"],
    "w8a8kv8-kv4": ["keys and values are given twice"],
    "int4-attn": ["-attn", "activations"],
    "codebook[1:0]": ["ascend"],
    "codebook[0:inf]": ["finite"],
    "codebook[0:1:one]": ["list of numbers"],
    "codebook[0]": ["2 to 256 levels, not 1"],
    "codebook[-1:0:1e-9:1]": ["closer"],
    "codebook[1:2:3]": ["levels of both signs", "negative value"],
    "codebook[0:1:2]": ["levels of both signs", "negative value"],
    "codebook[-2:-1:0]": ["levels of both signs", "positive value"],
    "int4-act-codebook[0:1]": ["levels of both signs"],
}  # fmt: skip


@pytest.mark.parametrize("name", CLASHES)
def test_an_impossible_scheme_says_which_part_clashes(name: str) -> None:
    with pytest.raises(SchemeError) as refused:
        parse_scheme(name)
    assert refused.value.code == "unknown_scheme"
    assert refused.value.details["scheme"] == name
    for words in CLASHES[name]:
        assert words in refused.value.message


RECORDS = {
    "bits: Field required": {"format": "integer"},
    "colour: ": {"bits": 4, "colour": "red"},
    "activations.bits": {"bits": 4, "activations": {"bits": 0}},
    "there is no number format 'int4'": {"format": "int4", "bits": 4},
    "granularity": {"bits": 4, "granularity": "token"},
    "group_size goes with": {"bits": 4, "granularity": "tensor", "group_size": 8},
    "-asym clashes with -full": {"bits": 4, "symmetric": False, "full_range": True},
    "nf4 has levels of its own": {"format": "nf4", "levels": [-1, 1], "bits": 1},
    "3 levels take 2 bits, not 4": {"format": "codebook", "bits": 4, "levels": [-1, 0, 1]},
    "need a second scale": {"bits": 4, "scale_dtype": "e4m3"},
    "belong to nvfp4": {"format": "fp8-e4m3", "scale_dtype": "e4m3"},
    "float weights count as 32 bits, not 8": {"format": "float", "bits": 8},
    "their format is dynamic": {"bits": 4, "kv": {"bits": 8}},
    "there is no observer 'magic'": {"bits": 8, "activations": {"bits": 8, "observer": "magic"}},
}


@pytest.mark.parametrize("words", RECORDS)
def test_an_impossible_record_says_which_field_is_wrong(words: str) -> None:
    with pytest.raises(SchemeError) as refused:
        parse_scheme(RECORDS[words])
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("nvpf4", "nvfp4"), ("int-4", "int4"), ("INT4-G128", "int4-g128"), ("fp8_e4m3", "fp8-e4m3"),
        ("nf4-64", "nf4-g64"), ("w8a8-fp-8", "w8a8-fp8"), ("mxpf4", "mxfp4"), ("int4_g128_asym", "int4-g128-asym"),
        ("w4a8-dynamc", "w4a8-dynamic"), ("int8-tensors", "int8-tensor"),
    ],
)  # fmt: skip
def test_an_unknown_name_suggests_the_nearest(written: str, meant: str) -> None:
    with pytest.raises(SchemeError) as refused:
        parse_scheme(written)
    assert refused.value.details["nearest"][0] == meant
    assert f"did you mean {meant}" in refused.value.hint
    assert "`quant-lens schemes` lists them" in refused.value.hint


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("fp8", ["fp8-e4m3", "fp8-e5m2"]), ("fp8-tensor", ["fp8-e4m3-tensor", "fp8-e5m2-tensor"]),
        ("fp4", ["nvfp4", "mxfp4"]), ("mxfp8", ["mxfp8-e4m3", "mxfp8-e5m2"]), ("mxfp6", ["mxfp6-e2m3", "mxfp6-e3m2"]),
        ("int4-sym", ["int4"]), ("int4-sym-g128", ["int4-g128"]), ("int8-per-channel", ["int8"]),
        ("INT4", ["int4"]), ("W8A8", ["w8a8"]), ("Int4_Group128", ["int4-g128"]), ("uint8", ["int8-asym"]),
        ("int8_per_tensor_affine", ["int8-tensor-asym"]), ("E4M3fn", ["fp8-e4m3"]),
    ],
)  # fmt: skip
def test_what_it_is_called_elsewhere_is_known(written: str, meant: list[str]) -> None:
    with pytest.raises(SchemeError) as refused:
        parse_scheme(written)
    assert refused.value.details["nearest"] == meant
    assert refused.value.hint.startswith(f"did you mean {' or '.join(meant)}?")
    assert [parse_scheme(name) for name in meant]


def test_a_beginning_of_a_name_is_near_too() -> None:
    for written, meant in {"nf5": "nf4", "flot": "float", "mxfp5": "mxfp4", "fp8-e4m": "fp8-e4m3"}.items():
        with pytest.raises(SchemeError) as refused:
            parse_scheme(written)
        assert refused.value.details["nearest"][0] == meant


@pytest.mark.parametrize("written", ["fp16", "bf16", "float16", "BFloat16", "fp32"])
def test_weights_in_float_are_named_float(written: str) -> None:
    with pytest.raises(SchemeError) as refused:
        parse_scheme(written)
    assert refused.value.details["nearest"] == ["float"]
    assert refused.value.hint.startswith("weights that stay in float are named float, as in float-act-int8 (w16a8)")


@pytest.mark.parametrize("value", [None, 8, ["int8"], 4.0])
def test_what_is_neither_a_name_nor_a_record(value: Any) -> None:
    with pytest.raises(SchemeError, match=type(value).__name__):
        parse_scheme(value)


def test_a_scheme_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_scheme("int4").bits = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("w4a16", "int4"), ("w4a16-g128-asym", "int4-g128-asym"), ("w4a16kv8", "int4-kv8"), ("w16a16", "float"),
        ("w8a16-fp8", "fp8-e4m3"), ("w4a16-nvfp4", "nvfp4"), ("int4-act-int16", "int4-act-int16"),
    ],
)  # fmt: skip
def test_activations_of_16_bits_are_floats(said: str, name: str) -> None:
    """As the field says it: W4A16 has weights of 4 bits and activations in half precision."""
    assert parse_scheme(said).name == name
    assert parse_scheme(name) == parse_scheme(said)


def test_a_float_activation_has_no_range() -> None:
    with pytest.raises(SchemeError, match="activations of 16 bits stay in float"):
        parse_scheme("w4a16-percentile")
