"""What a user is offered: schemes, observers, algorithms. Listing schemes and observers loads no torch."""

from __future__ import annotations

import importlib

from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema import (
    ActivationFormat,
    AlgorithmFacts,
    ObserverFacts,
    QuantizationScheme,
    SchemeFacts,
    parse_scheme,
)
from quant_lens_engine.schema.scheme import OFFERED_WITH_ACTIVATIONS

_TYPICAL_CHANNEL = 1024
"""Channels of a layer, and weights of each, for the effective bits of a scheme seen without a model."""

FAMILIES = {
    "integer": "Integer, weights only",
    "float": "Float, weights only",
    "block": "Block and codebook, weights only",
    "activations": "Weights and activations",
}
"""The headings of a list, in its order."""


def available_schemes() -> list[SchemeFacts]:
    """Every scheme on offer, in the order in which a page lists them.

    ``effective_bits`` is for a layer of 1024 × 1024; a run reports the model's own.

    Example:
        >>> next(facts for facts in available_schemes() if facts.name == "int4-g128").effective_bits
        4.125
    """
    weights = [parse_scheme(name) for quantizer in QUANTIZERS.values() for name in quantizer.offered()]
    weights.sort(key=lambda scheme: list(FAMILIES).index(QUANTIZERS[scheme.format].family))
    return [_facts(scheme) for scheme in [*weights, *map(parse_scheme, OFFERED_WITH_ACTIVATIONS)]]


def available_observers() -> list[ObserverFacts]:
    """How static activation ranges can be chosen.

    Example:
        >>> [facts.name for facts in available_observers() if "error" in facts.description]
        ['histogram', 'mse']
    """
    return [ObserverFacts(name=name, description=kind.description) for name, kind in OBSERVERS.items()]


def available_algorithms() -> list[AlgorithmFacts]:
    """How a network can be brought into a scheme; loads torch.

    Example:
        >>> {facts.name: facts.options for facts in available_algorithms()}["smoothquant"]
        {'alpha': 0.5}
    """
    registry = importlib.import_module("quant_lens_engine.quantization.algorithms")
    facts = [
        AlgorithmFacts(
            name=name,
            description=algorithm.description,
            phase=algorithm.phase,
            needs_calibration=algorithm.needs_calibration,
            options={key: field.default for key, field in algorithm.options.model_fields.items()},
        )
        for name, algorithm in registry.ALGORITHMS.items()
    ]
    return sorted(facts, key=lambda item: registry.PHASES.index(item.phase))


def describe(scheme: QuantizationScheme) -> str:
    """A scheme in one line, with its scale formulas.

    Example:
        >>> describe(parse_scheme("int4-g128"))
        'INT4, symmetric; fp16 scale = amax / 7, one for 128 weights of a channel'
    """
    shared = {
        "tensor": "one a tensor",
        "channel": "one a channel",
        "group": f"one for {scheme.group_size} weights of a channel",
        "block": f"one for {scheme.group_size} × {scheme.group_size} weights",
    }[scheme.granularity]
    said = QUANTIZERS[scheme.format].describe(scheme)
    parts = [f"weights {said}" if scheme.format == "float" else f"{said}, {shared}"]
    if scheme.activations is not None:
        parts.append(f"activations {_describe_activations(scheme.activations)}")
    if scheme.kv is not None:
        parts.append(f"keys and values {_describe_activations(scheme.kv)}")
    if scheme.attention:
        parts.append("attention's products rounded like activations")
    return "; ".join(parts)


def _describe_activations(fmt: ActivationFormat) -> str:
    kind = QUANTIZERS[fmt.format].describe(fmt).partition(";")[0]
    if fmt.granularity == "group":
        return f"{kind} in blocks of {fmt.group_size}"
    if not fmt.dynamic:
        return f"{kind}, static, one scale a tensor ({fmt.observer})"
    return f"{kind}, dynamic, one scale a {'token' if fmt.granularity == 'token' else 'row of the batch'}"


def _facts(scheme: QuantizationScheme) -> SchemeFacts:
    cost = QUANTIZERS[scheme.format].stored_bits(scheme)
    size = scheme.group_size or 1
    block = {"tensor": _TYPICAL_CHANNEL**2, "channel": _TYPICAL_CHANNEL, "group": size, "block": size**2}
    bits = cost.element + cost.block / block[scheme.granularity] + cost.tensor / _TYPICAL_CHANNEL**2
    return SchemeFacts(
        name=scheme.name,
        family="activations" if scheme.rounds_activations else QUANTIZERS[scheme.format].family,
        bits=scheme.bits,
        effective_bits=round(bits, 6),
        description=describe(scheme),
        needs_calibration=scheme.needs_calibration,
    )
