"""The formula that a description gives for a scale is the one that is computed, for every format and scale dtype."""

import math
import re

import pytest
import torch

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.quantization.blocks import span_of, span_of_all
from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema import parse_scheme
from quant_lens_engine.schema.scheme_description import describe_scheme

STEMS = ["int4", "int8-asym", "int4-full", "int16", "fp8-e4m3", "fp8-e5m2", "nf4", "codebook[-3:-1:0:2]"]
STORED = ["", "-fp32scales", "-fp16scales", "-e8m0scales"]
FIXED = [name for name, quantizer in QUANTIZERS.items() if quantizer.defaults.get("granularity") == "group"]
PRECISION = {"fp32": (1e-6, 0.0), "fp16": (2**-11, 2**-25), "e8m0": (0.0, 0.0), "e4m3": (2**-4, 0.0)}
"""Relative and absolute, of a scale as it is stored."""


def described(description: str, block: torch.Tensor, whole: torch.Tensor) -> tuple[float, tuple[float, float]]:
    """What the words come to for one block, and how far the computed scale may be from it."""
    said = re.search(r"(fp32|fp16|e8m0|e4m3) scale = (.+), one (?:a|for) ", description)
    assert said is not None, description
    stored, formula = said.groups()
    formula, rounded_up, _ = formula.partition(", rounded up to a power of two")
    formula, _, of_tensor = formula.partition(", one fp32 s = ")
    formula, range_holds_zero, _ = formula.partition(" with min ≤ 0 ≤ max")
    known = {"amax": block.abs().max().item(), "min": block.min().item(), "max": block.max().item()}
    if range_holds_zero:
        known |= {"min": min(known["min"], 0.0), "max": max(known["max"], 0.0)}
    if of_tensor:
        known["s"] = eval(of_tensor.replace("amax(tensor)", "amax"), {"amax": whole.abs().max().item()})
    text = formula.replace("−", "-").replace("^", "**").replace("⌊log2 amax⌋", "floor(log2(amax))")
    value = eval(text, {"floor": math.floor, "log2": math.log2, **known}) * known.get("s", 1.0)
    return 2.0 ** math.ceil(math.log2(value)) if rounded_up else value, PRECISION[stored]


@pytest.mark.parametrize("name", [*(stem + stored for stem in STEMS for stored in STORED), *FIXED])
def test_the_formula_in_words_is_the_one_computed(name: str) -> None:
    scheme = parse_scheme(name)
    torch.manual_seed(0)
    rows = torch.randn(6, 32) * torch.tensor([3.0, 1.0, 0.3, 0.07, 0.9, 2.2])[:, None]
    rows[4] = rows[4].abs() + 1  # of one sign: an asymmetric range holds 0 all the same
    scales = QUANTIZERS[scheme.format].qparams(span_of(rows, scheme), scheme, span_of_all(rows)).scale
    for block, scale in zip(rows, scales.flatten().tolist(), strict=True):
        value, (relative, absolute) = described(describe_scheme(scheme), block, rows)
        assert scale == pytest.approx(value, rel=relative, abs=absolute), describe_scheme(scheme)


@pytest.mark.parametrize("stem", STEMS)
def test_a_scale_that_is_rounded_up_says_so(stem: str) -> None:
    said = describe_scheme(parse_scheme(f"{stem}-e8m0scales"))
    assert "e8m0 scale = " in said
    assert said.endswith(", rounded up to a power of two, one a channel")


@pytest.mark.parametrize("name", FIXED)
def test_of_block_formats_no_other_scale_can_be_asked_for(name: str) -> None:
    for dtype in {"float32", "float16", "e8m0", "e4m3"} - {QUANTIZERS[name].defaults["scale_dtype"]}:
        with pytest.raises(SchemeError, match="and no other"):
            parse_scheme({"format": name, "scale_dtype": dtype})
