"""What a user is offered: schemes, observers, algorithms. Listing schemes and observers loads no torch."""

from __future__ import annotations

import importlib
from typing import Any

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema import AlgorithmFacts, ObserverFacts, QuantizationScheme, SchemeFacts, parse_scheme
from quant_lens_engine.schema.algorithms import Refusal, option_facts
from quant_lens_engine.schema.scheme import OFFERED_WITH_ACTIVATIONS
from quant_lens_engine.schema.scheme_description import COMMON, FAMILIES, family_of, scheme_facts


def available_schemes() -> list[SchemeFacts]:
    """Every scheme on offer, in the order in which a page lists them: by family, the common ones first.

    ``effective_bits`` is for a layer of 1024 × 1024; a run reports the model's own.

    Example:
        >>> next(facts for facts in available_schemes() if facts.name == "int4-g128").effective_bits
        4.125
    """
    return [scheme_facts(scheme) for scheme in sorted(_offered(), key=_place)]


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
    probes = [*_offered(), parse_scheme("float")]
    usual = registry.usual_options()
    facts = [
        AlgorithmFacts(
            name=name,
            description=algorithm.description,
            phase=algorithm.phase,
            needs_calibration=algorithm.needs_calibration,
            passes=algorithm.passes,
            options=usual[name],
            option_facts=option_facts(algorithm.options),
            refusals=_refusals(algorithm, probes),
        )
        for name, algorithm in registry.ALGORITHMS.items()
    ]
    return sorted(facts, key=lambda item: registry.PHASES.index(item.phase))


def _offered() -> list[QuantizationScheme]:
    weights = [name for quantizer in QUANTIZERS.values() for name in quantizer.offered()]
    return [parse_scheme(name) for name in (*weights, *OFFERED_WITH_ACTIVATIONS)]


def _place(scheme: QuantizationScheme) -> tuple[int, int]:
    family = list(FAMILIES).index(family_of(scheme))
    return family, COMMON.index(scheme.name) if scheme.name in COMMON else len(COMMON)


def _refusals(algorithm: Any, probes: list[QuantizationScheme]) -> list[Refusal]:
    """The kinds of scheme for which an algorithm is not defined: those of which it refuses every probe."""
    answers: dict[tuple[str, bool], list[SchemeError | None]] = {}
    for scheme in probes:
        answers.setdefault((scheme.format, scheme.activations is not None), []).append(_refused(algorithm, scheme))
    return [
        Refusal(format=kind[0], activations=kind[1], reason=errors[0].details.get("reason", ""), hint=errors[0].hint)
        for kind, errors in ((kind, [error for error in found if error]) for kind, found in answers.items())
        if len(errors) == len(answers[kind])
    ]


def _refused(algorithm: Any, scheme: QuantizationScheme) -> SchemeError | None:
    try:
        algorithm.check(scheme)
    except SchemeError as error:
        return error
    return None
