"""The verdict on a variant: a level by what was measured, and signals beside it.

The level rests on measured accuracy, or on the measured loss where there is no accuracy. Curvature is never the judge:
on one network λmax rises by half without damage, on another it falls while the accuracy goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from quant_lens_engine.diagnosis.basin_widths import compare_basins
from quant_lens_engine.diagnosis.chance import doubt_about
from quant_lens_engine.diagnosis.coin_in_the_well import coin_in_the_well
from quant_lens_engine.schema import Comparison, Evaluation, Variant, Verdict, VerdictLevel
from quant_lens_engine.schema.numbers import count, number, percent, with_error

LEVELS: tuple[VerdictLevel, ...] = ("safe", "caution", "degraded", "collapsed")
_TWO_SIDED_95 = 1.96


@dataclass(frozen=True)
class LevelRule:
    """What sets the level.

    Attributes:
        measure: what is compared with the thresholds.
        unit: of the thresholds.
        thresholds: from here on: caution, degraded, collapsed.
        evidence: why these.
    """

    measure: str
    unit: str
    thresholds: tuple[float, float, float]
    evidence: str

    def level(self, value: float) -> VerdictLevel:
        """The level of a measured value.

        Example:
            >>> LEVEL_RULES["accuracy"].level(0.3), LEVEL_RULES["accuracy"].level(10.0)
            ('safe', 'collapsed')
        """
        return LEVELS[sum(value >= threshold for threshold in self.thresholds)]


@dataclass(frozen=True)
class SignalRule:
    """Something worth naming that does not set the level.

    Attributes:
        measure: what is looked at.
        threshold: beyond it the signal is named.
        evidence: why it is a signal and no judge.
    """

    measure: str
    threshold: float
    evidence: str


LEVEL_RULES: dict[str, LevelRule] = {
    "accuracy": LevelRule(
        "accuracy lost against the float model, on the same rows", "percentage points", (1.0, 3.0, 10.0),
        "One point is what vision benchmarks call lossless (MLPerf asks for 99 % of the float accuracy); three is "
        "where quantization-aware training is usually brought in; a model that loses ten answers another question.",
    ),
    "skill": LevelRule(
        "accuracy lost where a row has many answers, in parts of what the float model has over the most frequent one",
        "of that", (0.02, 0.06, 0.2),
        "Where nearly all pixels are background, or labels no, a model that has lost everything is still right most of "
        "the time. With two answers that are equally frequent these are one, three and ten points. The worse level of "
        "this and of accuracy counts.",
    ),
    "loss": LevelRule(
        "loss gained, where outputs are categorical but there is no accuracy", "nats", (0.01, 0.05, 0.25),
        "exp(ΔL) is the factor of the perplexity: 1.01, 1.05 and 1.28. Published 8-bit weights stay below the first, "
        "good 4-bit ones below the second, 2-bit rounding passes the third.",
    ),
    "relative loss": LevelRule(
        "loss gained in parts of the float loss, where outputs are not categorical", "of the float loss",
        (0.01, 0.05, 0.25),
        "A regression's loss has the square of its target's unit: only its relative change can be judged.",
    ),
}  # fmt: skip
"""How a level is set: the first rule that applies."""

SIGNAL_RULES: dict[str, SignalRule] = {
    "sharper": SignalRule(
        "λmax / λmax(FP32) above", 1.5,
        "quant-lens 0.1 warned here. From one batch the ratio of an INT8 network whose true ratio is 1.01 came out "
        "between 0.12 and 4.53, and 38 % of 60 runs were flagged; from all rows it is a fact, and still not damage.",
    ),
    "flatter": SignalRule(
        "λmax / λmax(FP32) below", 1 / 1.5,
        "A falling λ is no sign of safety: the basin can narrow at the same time (the coin in the well).",
    ),
    "narrower": SignalRule(
        "basin width / basin width(FP32), below 1 beyond the spread over the directions, and below", 1 / 1.5,
        "A narrower basin leaves less room for the next perturbation: pruning, another rounding, drifted data.",
    ),
    "coin": SignalRule(
        "λmax and the basin's width both below the float model's, beyond their errors, by a ratio of", 1.0,
        "The coin in the well: flatter at the bottom, and less room. Published runs read the falling λ as safety "
        "(ResNet-18 on CIFAR-10: 113 to 43 at INT8) where the basin had narrowed.",
    ),
    "barrier": SignalRule(
        "barrier between FP32 and the variant, in rises that end a basin, above", 1.0,
        "Rounding that crosses a wall has left the float model's basin: what is measured there is another solution. "
        "The barrier of linear mode connectivity (Frankle et al. 2020); the rise is the float loss again, or 0.1.",
    ),
    "disagrees": SignalRule(
        "answers that differ from the float model's, beyond twice the accuracy lost, above", 0.05,
        "Accuracy can stay while answers change: gains and losses cancel on average, not for the user of one row.",
    ),
}  # fmt: skip
"""What is named beside the level."""


def give_verdict(baseline: Variant, variant: Variant, comparison: Comparison) -> Verdict:
    """The level of ``variant``, with the evidence in sentences.

    Args:
        baseline: the float model, with its evaluation.
        variant: with its evaluation; curvature and lines where they were measured.
        comparison: the differences between the two.

    Example:
        >>> from quant_lens_engine.schema import compare_to_float
        >>> float_model = Variant(name="FP32", evaluation=Evaluation(loss=0.07, accuracy=0.99, samples=1000))
        >>> measured = Evaluation(loss=0.2, accuracy=0.95, delta_accuracy=-0.04, delta_accuracy_standard_error=0.007,
        ...                       delta_loss=0.13, delta_loss_standard_error=0.02, samples=1000)
        >>> int3 = Variant(name="int3", evaluation=measured)
        >>> give_verdict(float_model, int3, compare_to_float(float_model, int3)).level
        'degraded'
    """
    return _doubted(_compared(baseline, variant, comparison), baseline)


def _compared(baseline: Variant, variant: Variant, comparison: Comparison) -> Verdict:
    measured = variant.evaluation or Evaluation()
    signals = [sentence for signal in _SIGNALS if (sentence := signal(baseline, variant, comparison))]
    basin = compare_basins(baseline, variant)
    if measured.loss is None:
        return Verdict(level="collapsed", reasons=["the loss is not finite"], signals=signals, basin=basin)
    if comparison.delta_accuracy is not None:
        level, reason = _by_accuracy(baseline, measured, comparison)
        reasons = [reason, _loss_sentence(comparison)]
        if (skill := _by_skill(baseline, comparison)) is not None:
            level = max(level, skill[0], key=LEVELS.index)
            reasons.insert(1, skill[1])
        return Verdict(level=level, reasons=reasons, signals=signals, basin=basin)
    level, reasons = _by_loss(baseline, measured, comparison)
    return Verdict(level=level, reasons=reasons, signals=signals, basin=basin)


def _doubted(verdict: Verdict, baseline: Variant) -> Verdict:
    """What stays as it was is not safe where it was no better than guessing."""
    doubt = None if baseline.evaluation is None else doubt_about(baseline.evaluation)
    if doubt is None:
        return verdict
    level = max(verdict.level, "caution", key=LEVELS.index)
    return verdict.model_copy(update={"level": level, "doubt": doubt, "reasons": [doubt, *verdict.reasons]})


def _by_accuracy(baseline: Variant, measured: Evaluation, comparison: Comparison) -> tuple[VerdictLevel, str]:
    drop = -100 * (comparison.delta_accuracy or 0.0)
    error = 100 * (comparison.delta_accuracy_standard_error or 0.0)
    before = baseline.evaluation.accuracy if baseline.evaluation else None
    rule = LEVEL_RULES["accuracy"]
    level = rule.level(drop)
    span = f"({percent(before)} → {percent(measured.accuracy)})"
    rows = f"on {count(measured.samples)} {measured.answers}"
    if drop == 0:
        return level, f"accuracy stays at {percent(measured.accuracy)} {rows}{_reach(rule, drop, error)}"
    word = "falls" if drop > 0 else "rises"
    within = ", within its sampling error" if abs(drop) <= _TWO_SIDED_95 * error else ""
    return level, (
        f"accuracy {word} by {with_error(abs(drop), error)} points {rows} {span}{within}{_reach(rule, drop, error)}"
    )


def _by_skill(baseline: Variant, comparison: Comparison) -> tuple[VerdictLevel, str] | None:
    """Of tasks whose rows have many answers; None where the float model has nothing over the most frequent one."""
    before = baseline.evaluation
    if before is None or before.majority is None or before.accuracy is None or comparison.delta_accuracy is None:
        return None
    skill = before.accuracy - before.majority
    if skill <= 0:
        frequent = f"always giving the most frequent answer has {percent(before.majority)}"
        relative = (comparison.delta_loss or 0.0) / abs(before.loss) if before.loss else 0.0
        level = LEVEL_RULES["relative loss"].level(relative)
        return level, f"{frequent}, no less than the float model: the loss decides ({percent(relative)} of the float's)"
    lost = max(-comparison.delta_accuracy, 0.0) / skill
    return LEVEL_RULES["skill"].level(lost), (
        f"that is {percent(lost)} of what the float model has over the most frequent answer, "
        f"which alone has {percent(before.majority)}"
    )


def _reach(rule: LevelRule, drop: float, error: float) -> str:
    """How bad it could be at 95 % confidence, where that is another level."""
    worst = drop + _TWO_SIDED_95 * error
    level = rule.level(worst)
    return f"; at 95 % it could be {number(worst)} points ({level})" if level != rule.level(drop) else ""


def _by_loss(baseline: Variant, measured: Evaluation, comparison: Comparison) -> tuple[VerdictLevel, list[str]]:
    change = comparison.delta_loss
    if change is None:
        return "caution", ["the loss cannot be compared with the float model's row by row"]
    sentence = _loss_sentence(comparison)
    if measured.kl_to_float is not None:
        rule = LEVEL_RULES["loss"]
        return rule.level(change), [f"{sentence}: the perplexity times {number(math.exp(min(change, 700.0)))}"]
    before = baseline.evaluation.loss if baseline.evaluation else None
    if not before:
        return "caution", [sentence, "the float loss is zero: its relative change has no meaning"]
    relative = change / abs(before)
    return LEVEL_RULES["relative loss"].level(relative), [f"{sentence}: {percent(relative)} of the float loss"]


def _loss_sentence(comparison: Comparison) -> str:
    change, error = comparison.delta_loss, comparison.delta_loss_standard_error
    if change is None:
        return "the change of the loss is not known"
    if change == 0:
        return "the loss does not change"
    return f"the loss {'rises' if change > 0 else 'falls'} by {with_error(abs(change), error)}"


def _ratio_signal(baseline: Variant, variant: Variant, comparison: Comparison) -> str | None:  # noqa: ARG001
    ratio = comparison.sharpness_ratio
    if ratio is None:
        return None
    if ratio > SIGNAL_RULES["sharper"].threshold:
        return f"λmax is {number(ratio)} × the float model's: a sharper point; a signal, not the judge"
    if ratio < SIGNAL_RULES["flatter"].threshold:
        return f"λmax is {number(ratio)} × the float model's: flatter, which is no sign of safety"
    return None


def _basin_signal(baseline: Variant, variant: Variant, comparison: Comparison) -> str | None:  # noqa: ARG001
    found = compare_basins(baseline, variant)
    if found is None or found.change != "narrower" or found.ratio is None:
        return None
    if found.ratio >= SIGNAL_RULES["narrower"].threshold:
        return None
    return f"the basin narrows to {number(found.ratio)} × the float model's width, on {found.directions} directions"


def _coin_signal(baseline: Variant, variant: Variant, comparison: Comparison) -> str | None:  # noqa: ARG001
    found = coin_in_the_well(baseline, variant)
    if found is None:
        return None
    return (
        f"the coin in the well: λmax falls to {number(found.sharpness_ratio)} × the float model's while the basin "
        f"narrows to {number(found.width_ratio)} × its width"
    )


def _barrier_signal(baseline: Variant, variant: Variant, comparison: Comparison) -> str | None:  # noqa: ARG001
    rise = next((line.basin_rise for line in variant.lines if line.basin_rise is not None), None)
    height = None if variant.path is None else variant.path.barrier
    if height is None or rise is None or height <= SIGNAL_RULES["barrier"].threshold * rise:
        return None
    return f"a barrier of {number(height)} stands between FP32 and the variant"


def _agreement_signal(baseline: Variant, variant: Variant, comparison: Comparison) -> str | None:  # noqa: ARG001
    measured = variant.evaluation
    if measured is None or measured.top1_agreement is None or comparison.delta_accuracy is None:
        return None
    changed = 1 - measured.top1_agreement
    lost = abs(comparison.delta_accuracy)
    if changed - 2 * lost <= SIGNAL_RULES["disagrees"].threshold:
        return None
    return f"{percent(changed)} of the answers differ from the float model's, more than the accuracy tells"


_SIGNALS: tuple[Callable[[Variant, Variant, Comparison], str | None], ...] = (
    _coin_signal, _ratio_signal, _basin_signal, _barrier_signal, _agreement_signal,
)  # fmt: skip
