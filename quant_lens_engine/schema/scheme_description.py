"""A scheme in words, and what it costs before a model is known. Needs no torch: pages and command line say it too."""

from __future__ import annotations

from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema.capabilities import SchemeFacts
from quant_lens_engine.schema.number_format import ActivationFormat
from quant_lens_engine.schema.scheme import QuantizationScheme

TYPICAL_CHANNEL = 1024
"""Channels of a layer, and weights of each, for the effective bits of a scheme seen without a model."""

FAMILIES: dict[str, str] = {
    "integer": "Integer, weights only",
    "float": "Float, weights only",
    "block": "Block and codebook, weights only",
    "activations": "Weights and activations",
}
"""The headings of a list, in its order."""

COMMON: tuple[str, ...] = (
    "int8", "int4", "int4-g128", "int4-g32", "int3", "int2",
    "fp8-e4m3", "fp8-e5m2", "fp8-e4m3-b128",
    "nvfp4", "mxfp4", "nf4-g64", "mxfp8-e4m3", "mxfp6-e2m3", "mxint8",
    "w8a8", "w8a8-dynamic", "w4a8", "w4a8-g128-dynamic", "w8a8-fp8-dynamic", "w4a4-nvfp4",
)  # fmt: skip
"""What is asked for most: a list shows these first, and a page the others on demand."""


def describe_scheme(scheme: QuantizationScheme) -> str:
    """A scheme in one line, with its scale formulas.

    Example:
        >>> from quant_lens_engine.schema import parse_scheme
        >>> describe_scheme(parse_scheme("int4-g128"))
        'INT4, symmetric; fp16 scale = amax / 7, one for 128 weights of a channel'
    """
    return "; ".join(f"{part} {words}".strip() for part, words in scheme_parts(scheme))


def scheme_parts(scheme: QuantizationScheme) -> list[tuple[str, str]]:
    """What is rounded, and how, part by part; the first is the weights, and says so only where they are not rounded.

    Example:
        >>> from quant_lens_engine.schema import parse_scheme
        >>> scheme_parts(parse_scheme("w16a8-attn"))[0], len(scheme_parts(parse_scheme("w8a8-dynamic-kv8")))
        (('weights', 'stay in float'), 3)
    """
    shared = {
        "tensor": "one a tensor",
        "channel": "one a channel",
        "group": f"one for {scheme.group_size} weights of a channel",
        "block": f"one for {scheme.group_size} × {scheme.group_size} weights",
    }[scheme.granularity]
    said = QUANTIZERS[scheme.format].describe(scheme)
    parts = [("weights", said) if scheme.format == "float" else ("", f"{said}, {shared}")]
    if scheme.activations is not None:
        parts.append(("activations", describe_activations(scheme.activations)))
    if scheme.kv is not None:
        parts.append(("keys and values", describe_activations(scheme.kv)))
    if scheme.attention:
        parts.append(("attention's products", "rounded like activations"))
    return parts


def describe_activations(fmt: ActivationFormat) -> str:
    """How activations are rounded, without the formula of their scale.

    Example:
        >>> describe_activations(ActivationFormat(bits=8, dynamic=True))
        'INT8, symmetric, dynamic, one scale a token'
    """
    kind = QUANTIZERS[fmt.format].describe(fmt).partition(";")[0]
    if fmt.granularity == "group":
        static = "" if fmt.dynamic else f", static, one scale above them a tensor ({fmt.observer})"
        return f"{kind} in blocks of {fmt.group_size}{static}"
    if not fmt.dynamic:
        return f"{kind}, static, one scale a tensor ({fmt.observer})"
    return f"{kind}, dynamic, one scale a {'token' if fmt.granularity == 'token' else 'row of the batch'}"


def typical_bits(scheme: QuantizationScheme) -> float:
    """Stored bits a weight, scales and zero points included, of a layer of 1024 × 1024; a run reports its model's own.

    Example:
        >>> from quant_lens_engine.schema import parse_scheme
        >>> typical_bits(parse_scheme("int4-g128")), typical_bits(parse_scheme("int8"))
        (4.125, 8.03125)
    """
    cost = QUANTIZERS[scheme.format].stored_bits(scheme)
    size = scheme.group_size or 1
    block = {"tensor": TYPICAL_CHANNEL**2, "channel": TYPICAL_CHANNEL, "group": size, "block": size**2}
    bits = cost.element + cost.block / block[scheme.granularity] + cost.tensor / TYPICAL_CHANNEL**2
    return round(bits, 6)


def family_of(scheme: QuantizationScheme) -> str:
    """The key of its heading in :data:`FAMILIES`.

    Example:
        >>> from quant_lens_engine.schema import parse_scheme
        >>> family_of(parse_scheme("nvfp4")), family_of(parse_scheme("w8a8"))
        ('block', 'activations')
    """
    return "activations" if scheme.rounds_activations else QUANTIZERS[scheme.format].family


def scheme_facts(scheme: QuantizationScheme) -> SchemeFacts:
    """Everything that a list says of a scheme."""
    return SchemeFacts(
        name=scheme.name,
        family=family_of(scheme),
        bits=scheme.bits,
        effective_bits=typical_bits(scheme),
        description=describe_scheme(scheme),
        needs_calibration=scheme.needs_calibration,
        common=scheme.name in COMMON,
    )
