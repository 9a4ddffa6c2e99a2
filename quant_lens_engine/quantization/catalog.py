"""The schemes that a user is offered. Loads no torch."""

from __future__ import annotations

from quant_lens_engine.quantization.quantizers import QUANTIZERS
from quant_lens_engine.schema import QuantizationScheme, SchemeFacts

_TYPICAL_CHANNEL = 1024
"""Weights of one channel and of one block, for the effective bits of a scheme seen without a model."""


def available_schemes() -> list[SchemeFacts]:
    """Every registered format's schemes, in the order in which a page lists them.

    ``effective_bits`` is for a layer of 1024 × 1024; a run reports the model's own.

    Example:
        >>> next(facts for facts in available_schemes() if facts.name == "int4-g128").effective_bits
        4.125
    """
    return [_facts(name, scheme) for name, quantizer in QUANTIZERS.items() for scheme in quantizer.offered()]


def _facts(family: str, scheme: QuantizationScheme) -> SchemeFacts:
    quantizer = QUANTIZERS[family]
    weight_bits, block_bits = quantizer.stored_bits(scheme)
    block = {"tensor": _TYPICAL_CHANNEL**2, "channel": _TYPICAL_CHANNEL}.get(scheme.granularity, scheme.group_size or 1)
    return SchemeFacts(
        name=scheme.name,
        family=family,
        bits=weight_bits,
        effective_bits=round(weight_bits + block_bits / block, 6),
        description=quantizer.describe(scheme),
    )
