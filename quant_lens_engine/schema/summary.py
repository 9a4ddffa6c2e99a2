"""A run in one sentence: what may be shipped, what not, and by which numbers; for page, report and command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_lens_engine.schema.base import Record
from quant_lens_engine.schema.numbers import count, number, percent, with_error
from quant_lens_engine.schema.recipe_description import sentence_names
from quant_lens_engine.schema.run_result import Comparison, RunResult, VerdictLevel

_ORDER: tuple[VerdictLevel, ...] = ("safe", "caution", "degraded", "collapsed")
_ONE = {"safe": "is safe to ship", "caution": "needs caution", "degraded": "is degraded", "collapsed": "has collapsed"}
_MANY = {
    "safe": "are safe to ship", "caution": "need caution", "degraded": "are degraded", "collapsed": "have collapsed",
}  # fmt: skip


class Summary(Record):
    """The verdict in words.

    Attributes:
        lead: the best news, or the worst where there is no good one; a whole sentence.
        rest: why the float model is no measure, if it is none, and the other variants in one sentence; may be empty.
        evidence: the numbers behind it, in one or two sentences; may be empty.
        level: of the lead, for its colour; null while nothing is judged.
    """

    lead: str = ""
    rest: str = ""
    evidence: str = ""
    level: VerdictLevel | None = None


def verdict_sentence(result: RunResult) -> Summary:
    """The verdict of a run in a sentence, as far as the run is.

    Args:
        result: complete, partial, or just begun.

    Example:
        >>> from quant_lens_engine.schema import Verdict
        >>> judged = [Comparison(variant="int8", verdict=Verdict(level="safe")),
        ...           Comparison(variant="int4", verdict=Verdict(level="degraded")),
        ...           Comparison(variant="int2", verdict=Verdict(level="collapsed"))]
        >>> said = verdict_sentence(RunResult(comparisons=judged))
        >>> said.lead, said.rest
        ('INT8 is safe to ship.', 'INT4 is degraded, INT2 has collapsed.')
    """
    by_level = {
        level: [item for item in result.comparisons if item.verdict is not None and item.verdict.level == level]
        for level in _ORDER
    }
    present = [level for level in _ORDER if by_level[level]]
    waiting = [item for item in result.comparisons if item.verdict is None]
    shown = sentence_names([item.variant for item in result.comparisons])
    if not present:
        return _nothing_yet(result, waiting, shown)
    lead_level, *others = present
    lead = f"{_clause(by_level[lead_level], lead_level, shown)}."
    if lead_level != "safe" and not waiting:
        lead = f"No variant is safe to ship: {lead}" if len(result.comparisons) > 1 else lead
    clauses = [_clause(by_level[level], level, shown) for level in others]
    if waiting:
        failed = _failed(result, waiting)
        pending = [item for item in waiting if item.variant not in failed]
        clauses += [f"{_names([item.variant for item in pending], shown)} pending"] if pending else []
        clauses += [f"{_names(failed, shown)} without a verdict"] if failed else []
    rest = f"{', '.join(clauses)}." if clauses else ""
    doubt = next((item.verdict.doubt for item in result.comparisons if item.verdict and item.verdict.doubt), None)
    rest = f"{doubt[0].upper()}{doubt[1:]}. {rest}".strip() if doubt else rest
    return Summary(lead=lead, rest=rest, evidence=_evidence(result, by_level[lead_level], shown), level=lead_level)


def failing_variants(result: RunResult, level: VerdictLevel) -> list[str]:
    """The variants whose verdict is as bad as ``level`` or worse; one without a verdict fails too.

    Example:
        >>> from quant_lens_engine.schema import Verdict
        >>> judged = [Comparison(variant="int8", verdict=Verdict(level="safe")), Comparison(variant="int4")]
        >>> failing_variants(RunResult(comparisons=judged), "degraded")
        ['int4']
    """
    bad = _ORDER[_ORDER.index(level) :]
    return [item.variant for item in result.comparisons if item.verdict is None or item.verdict.level in bad]


def _nothing_yet(result: RunResult, waiting: Sequence[Comparison], shown: Mapping[str, str]) -> Summary:
    if not waiting:
        return Summary(lead="There is no variant to judge.")
    failed = _failed(result, waiting)
    if len(failed) == len(waiting):
        return Summary(lead="No verdict: a measurement that it needs has failed.", evidence=_failure_evidence(result))
    names = _names([item.variant for item in waiting], shown)
    return Summary(
        lead="No verdict yet.",
        rest=f"{names} {'is' if len(waiting) == 1 else 'are'} being measured.",
    )


def _failed(result: RunResult, waiting: Sequence[Comparison]) -> list[str]:
    essential = {item.variant for item in result.failures if item.stage in ("inspect", "evaluate", "verdict")}
    everything = None in essential
    return [item.variant for item in waiting if everything or item.variant in essential]


def _failure_evidence(result: RunResult) -> str:
    return next((f"{item.stage}: {item.message}" for item in result.failures), "")


def _clause(items: Sequence[Comparison], level: VerdictLevel, shown: Mapping[str, str]) -> str:
    names = _names([item.variant for item in items], shown)
    return f"{names} {(_ONE if len(items) == 1 else _MANY)[level]}"


def _names(names: Sequence[str], shown: Mapping[str, str]) -> str:
    *before, last = (shown[name] for name in names)
    return f"{', '.join(before)} and {last}" if before else last


def _evidence(result: RunResult, lead: Sequence[Comparison], shown: Mapping[str, str]) -> str:
    """The lead's numbers, the first loss beyond its error, and the λ ratios as a signal."""
    bits = {item.name: item.effective_bits or 99.0 for item in result.variants}
    smallest = min(lead, key=lambda item: bits.get(item.variant, 99.0))
    sentences = [_measured(smallest, result, shown[smallest.variant])]
    worse = [item for item in result.comparisons if item.verdict is not None and item.verdict.level != "safe"]
    worse = [item for item in worse if item is not smallest]
    if worse:
        worst = min(worse, key=_badness)
        sentences.append(_measured(worst, result, shown[worst.variant]))
    sharper = [item for item in result.comparisons if item.sharpness_ratio is not None and item.sharpness_ratio > 1.5]
    if sharper:
        ratios = ", ".join(f"{number(item.sharpness_ratio)} × at {shown[item.variant]}" for item in sharper)
        sentences.append(f"λmax rises ({ratios}): a signal, not the judge.")
    return " ".join(sentence for sentence in sentences if sentence)


def _badness(item: Comparison) -> float:
    return -(item.delta_accuracy or 0.0) if item.delta_accuracy is not None else item.delta_loss or 0.0


def _measured(item: Comparison, result: RunResult, name: str) -> str:
    evaluation = next((found.evaluation for found in result.variants if found.name == item.variant), None)
    if evaluation is None:
        return ""
    if evaluation.loss is None:
        return f"At {name} the loss is not finite."
    if item.delta_accuracy is None:
        return (
            f"At {name} the loss changes by {with_error(item.delta_loss, item.delta_loss_standard_error, signed=True)}."
        )
    drop, error = -100 * item.delta_accuracy, 100 * (item.delta_accuracy_standard_error or 0.0)
    if drop == 0:
        moved = f"accuracy stays at {percent(evaluation.accuracy)}"
    else:
        moved = f"accuracy {'falls' if drop > 0 else 'rises'} by {with_error(abs(drop), error)} points"
        moved += ", inside the noise," if abs(drop) <= 1.96 * error else ""
    change = with_error(item.delta_loss, item.delta_loss_standard_error, signed=True)
    return f"At {name} {moved} on {count(evaluation.samples)} {evaluation.answers}; ΔL is {change}."
