"""Which variant of each run is compared: a scheme by its name, or a class of bits where the runs differ in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from quant_lens_engine.figures import bit_class, variant_styles
from quant_lens_engine.schema import FLOAT_VARIANT, RunResult, Variant


@dataclass(frozen=True)
class Choice:
    """One entry of the selector; ``value`` stands in the address, ``runs`` counts those that have it."""

    value: str
    label: str
    runs: int


def variant_choices(results: Sequence[RunResult]) -> list[Choice]:
    """What can be compared, most bits first: every scheme, and every class in which runs have different schemes."""
    names = Counter(variant.name for result in results for variant in result.variants)
    order = sorted(names, key=lambda name: (-_bits(name, results), name))
    choices = []
    for group in dict.fromkeys(_class(name, results) for name in order):
        members = [name for name in order if _class(name, results) == group]
        having = sum(any(v.name in members for v in result.variants) for result in results)
        if len(members) > 1 and having > max(names[name] for name in members):
            choices.append(Choice(group, f"{group} ({', '.join(members)})", having))
        choices += [Choice(name, _label(name, names[name], len(results)), names[name]) for name in members]
    return choices


def default_choice(choices: Sequence[Choice]) -> str | None:
    """The smallest variant that most runs have."""
    most = max((choice.runs for choice in choices), default=0)
    return next((choice.value for choice in reversed(choices) if choice.runs == most), None)


def pick_variant(result: RunResult, choice: str) -> Variant | None:
    """A run's variant for a choice; of several in a class the one with the fewest bits."""
    exact = next((variant for variant in result.variants if variant.name == choice), None)
    if exact is not None:
        return exact
    members = [variant for variant in result.variants if _class(variant.name, [result]) == choice]
    return min(members, key=lambda variant: variant.effective_bits or 0.0, default=None)


def _class(name: str, results: Sequence[RunResult]) -> str:
    for result in results:
        if any(variant.name == name for variant in result.variants):
            return variant_styles(result.variants)[name].bit_class
    return bit_class(None)


def _bits(name: str, results: Sequence[RunResult]) -> float:
    if name == FLOAT_VARIANT:
        return 64.0
    found = [v for result in results for v in result.variants if v.name == name]
    return float((found[0].scheme or {}).get("bits") or found[0].effective_bits or 0)


def _label(name: str, having: int, runs: int) -> str:
    return name if having == runs else f"{name} · {having} of {runs} runs"
