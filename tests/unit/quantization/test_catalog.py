"""The schemes on offer."""

import subprocess
import sys

from quant_lens_engine.quantization import available_schemes
from quant_lens_engine.schema import parse_scheme


def test_every_scheme_on_offer_has_its_own_name_and_can_be_asked_for() -> None:
    names = [facts.name for facts in available_schemes()]
    assert len(names) == len(set(names))
    assert [parse_scheme(name).name for name in names] == names


def test_effective_bits_are_those_of_the_vocabulary() -> None:
    bits = {facts.name: facts.effective_bits for facts in available_schemes()}
    assert bits["int4-g128"] == 4.125
    assert bits["int8"] == 8 + 32 / 1024
    assert bits["int4-g128-asym"] == 4 + (16 + 4) / 128


def test_descriptions_hold_the_scale_formula() -> None:
    descriptions = {facts.name: facts.description for facts in available_schemes()}
    assert descriptions["int4-g128"].endswith("fp16 scale = amax / 7, one for 128 weights of a channel")
    assert "amax / 7.5" in descriptions["int4-full"]


def test_listing_loads_no_torch() -> None:
    listing = "from quant_lens_engine.quantization import available_schemes; available_schemes()"
    code = f"import sys; {listing}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
