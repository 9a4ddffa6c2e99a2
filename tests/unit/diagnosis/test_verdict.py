"""The verdict: its level, its reasons, its signals, and the sentence that a run gets."""

from __future__ import annotations

import statistics

import pytest

from quant_lens_engine.diagnosis import LEVEL_RULES, SIGNAL_RULES, give_verdict
from quant_lens_engine.schema import (
    Comparison,
    Curvature,
    Eigenvalue,
    Evaluation,
    Line,
    RunResult,
    StageFailure,
    Variant,
    Verdict,
    basin_words,
    compare_to_float,
)
from quant_lens_engine.schema.numbers import THIN_SPACE
from quant_lens_engine.schema.recipe_description import display_name
from quant_lens_engine.schema.summary import failing_variants, verdict_sentence

FLOAT = Evaluation(loss=0.1, accuracy=0.99, samples=1000, forward="float")


def judged(evaluation, *, before=FLOAT, curvature=(None, None), widths=(None, None)):
    def variant(name, measured, sharpness, width):
        made = Variant(name=name, evaluation=measured)
        if sharpness is not None:
            made.curvature = Curvature(lambda_max=Eigenvalue(value=sharpness, residual=1e-6))
        if width is not None:
            made.lines = [Line(landscape="smooth", basin_width=width, basin_widths=[0.9 * width, width, 1.1 * width])]
        return made

    baseline = variant("FP32", before, curvature[0], widths[0])
    found = variant("int4", evaluation, curvature[1], widths[1])
    return give_verdict(baseline, found, compare_to_float(baseline, found))


def with_drop(points, error=0.0):
    return Evaluation(
        loss=0.2, accuracy=0.99 - points / 100, samples=1000, delta_loss=0.1, delta_loss_standard_error=0.01,
        delta_accuracy=-points / 100, delta_accuracy_standard_error=error / 100, top1_agreement=1 - abs(points) / 100,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("points", "level"),
    [(-2.0, "safe"), (0.0, "safe"), (0.9, "safe"), (1.1, "caution"), (2.9, "caution"), (3.1, "degraded"),
     (9.9, "degraded"), (10.1, "collapsed"), (80.0, "collapsed")],
)  # fmt: skip
def test_the_level_is_the_measured_accuracy_drop(points, level):
    assert judged(with_drop(points)).level == level


def test_each_rule_is_ordered_and_has_its_evidence():
    for rule in LEVEL_RULES.values():
        assert list(rule.thresholds) == sorted(rule.thresholds)
        assert len(rule.evidence) > 60
        assert [rule.level(value) for value in rule.thresholds] == ["caution", "degraded", "collapsed"]
    assert all(len(rule.evidence) > 60 for rule in SIGNAL_RULES.values())


def test_the_sampling_error_is_in_the_reason():
    reason = judged(with_drop(0.8, error=0.5)).reasons[0].replace(THIN_SPACE, " ")
    assert reason.startswith("accuracy falls by 0.80 ± 0.50 points on 1 000 rows (99.0 % → 98.2 %)")
    assert "within its sampling error" in reason
    assert "at 95 % it could be 1.78 points (caution)" in reason
    clear = judged(with_drop(5.0, error=0.5)).reasons[0]
    assert "sampling" not in clear
    assert "could" not in clear


def test_an_accuracy_that_rises_or_stays():
    assert judged(with_drop(-1.5, error=0.4)).reasons[0].startswith("accuracy rises by 1.5")
    assert judged(with_drop(0.0)).reasons[0].startswith("accuracy stays at 99")


@pytest.mark.parametrize(
    ("rise", "level"), [(-0.5, "safe"), (0.009, "safe"), (0.02, "caution"), (0.2, "degraded"), (3.0, "collapsed")]
)
def test_without_accuracy_the_loss_decides(rise, level):
    before = Evaluation(loss=2.0, samples=100)
    measured = Evaluation(
        loss=2.0 + rise, samples=100, delta_loss=rise, delta_loss_standard_error=0.001, kl_to_float=0.01
    )
    assert judged(measured, before=before).level == level


@pytest.mark.parametrize(("rise", "level"), [(0.5, "safe"), (2.0, "caution"), (10.0, "degraded"), (50.0, "collapsed")])
def test_a_regression_is_judged_by_its_relative_loss(rise, level):
    before = Evaluation(loss=100.0, samples=100)
    assert judged(Evaluation(loss=100.0 + rise, samples=100, delta_loss=rise), before=before).level == level


def test_a_loss_that_is_not_finite_has_collapsed():
    verdict = judged(Evaluation(loss=float("inf"), accuracy=0.1, delta_accuracy=-0.89, samples=100))
    assert (verdict.level, verdict.reasons) == ("collapsed", ["the loss is not finite"])


@pytest.mark.parametrize(
    ("sharpness", "words"), [((10, 16), "1.60 ×"), ((10, 5), "no sign of safety"), ((10, 12), None)]
)
def test_the_ratio_is_a_signal_and_never_the_judge(sharpness, words):
    verdict = judged(with_drop(0.0), curvature=sharpness)
    assert verdict.level == "safe"
    assert [words in signal for signal in verdict.signals] == ([True] if words else [])


def test_a_narrow_basin_and_changed_answers_are_signals():
    assert "narrows to 0.250 × the float model's width" in judged(with_drop(0.0), widths=(0.4, 0.1)).signals[0]
    swapped = with_drop(0.0).model_copy(update={"top1_agreement": 0.9})
    assert "answers differ" in judged(swapped).signals[0]


@pytest.mark.parametrize(
    ("accuracy", "samples", "doubted"),
    [(0.1899, 100, True), (0.1901, 100, False), (0.12, 899, True), (0.12, 901, True), (0.1301, 900, False)],
)
def test_what_is_not_above_chance_is_not_safe(accuracy, samples, doubted):
    """Three standard errors above 10 %: 19 % of 100 rows, 13 % of 900."""
    before = Evaluation(loss=2.3, accuracy=accuracy, chance=0.1, samples=samples, forward="float")
    same = Evaluation(loss=2.3, accuracy=accuracy, samples=samples, delta_loss=0.0, delta_accuracy=0.0)
    found = judged(same, before=before)
    assert found.level == ("caution" if doubted else "safe")
    assert (found.doubt is not None) == doubted == ("labels, transform or layout may be wrong" in found.reasons[0])
    result = run("safe")
    result.comparisons[0].verdict = found
    said = verdict_sentence(result)
    assert ("safe to ship" in said.lead) != doubted
    assert ("The float model is no better than always giving the most frequent answer" in said.rest) == doubted


# ---- the sentence


def run(*levels, failures=()):
    names = ["int8", "int4-g128", "int3", "int2"]
    result = RunResult(variants=[Variant(name="FP32", evaluation=FLOAT)], failures=list(failures))
    for name, level in zip(names, levels, strict=False):
        evaluation = with_drop({"safe": 0.2, "caution": 2, "degraded": 5, "collapsed": 50}.get(level, 0), error=0.3)
        variant = Variant(name=name, evaluation=evaluation if level else None, effective_bits=float(name[3]))
        comparison = compare_to_float(result.variants[0], variant)
        comparison.verdict = Verdict(level=level) if level else None
        result.variants.append(variant)
        result.comparisons.append(comparison)
    return result


def test_the_sentence_of_a_whole_run():
    said = verdict_sentence(run("safe", "caution", "degraded", "collapsed"))
    assert (said.lead, said.rest) == (
        "INT8 is safe to ship.",
        "INT4-g128 needs caution, INT3 is degraded, INT2 has collapsed.",
    )
    assert said.level == "safe"
    assert "At INT8 accuracy falls by 0.20 ± 0.30 points, inside the noise, on 1" in said.evidence
    assert "At INT4-g128 accuracy falls by 2.00 ± 0.30 points" in said.evidence


def test_several_of_one_level_share_a_clause():
    said = verdict_sentence(run("safe", "safe", "collapsed", "collapsed"))
    assert (said.lead, said.rest) == ("INT8 and INT4-g128 are safe to ship.", "INT3 and INT2 have collapsed.")


def test_nothing_is_safe():
    assert verdict_sentence(run("caution", "degraded")).lead == "No variant is safe to ship: INT8 needs caution."
    assert verdict_sentence(run("degraded")).lead == "INT8 is degraded."


def test_a_run_that_goes_on():
    assert verdict_sentence(run(None, None)).lead == "No verdict yet."
    said = verdict_sentence(run("safe", None, None))
    assert (said.lead, said.rest) == ("INT8 is safe to ship.", "INT4-g128 and INT3 pending.")
    assert verdict_sentence(run("degraded", None)).lead == "INT8 is degraded."
    assert verdict_sentence(RunResult()).lead == "There is no variant to judge."


def test_a_run_that_failed():
    broken = StageFailure(stage="evaluate", variant="int8", code="out_of_memory", message="not enough memory")
    assert "failed" in verdict_sentence(run(None, failures=[broken])).lead
    assert verdict_sentence(run(None, failures=[broken])).evidence == "evaluate: not enough memory"
    said = verdict_sentence(run(None, "safe", failures=[broken]))
    assert said.rest == "INT8 without a verdict."


def test_what_fails_a_build():
    result = run("safe", "caution", "collapsed")
    assert failing_variants(result, "caution") == ["int4-g128", "int3"]
    assert failing_variants(result, "collapsed") == ["int3"]
    assert failing_variants(RunResult(comparisons=[Comparison(variant="int8")]), "collapsed") == ["int8"]


def test_names_in_a_sentence():
    assert [display_name(name) for name in ("int16", "int4-asym", "Int8", "my int8")] == [
        "INT16",
        "INT4-asym",
        "Int8",
        "my int8",
    ]


def around(name, sharpness, widths, *, barrier=None, spread=0.01):
    """A variant whose λmax has an interval, and whose basin was measured along several directions."""
    sharp = Eigenvalue(value=sharpness, lower=sharpness * (1 - spread), upper=sharpness * (1 + spread))
    line = Line(landscape="smooth", basin_widths=widths, basin_rise=0.1)
    path = None if barrier is None else Line(landscape="smooth", direction="path", barrier=barrier)
    return Variant(
        name=name, evaluation=with_drop(0.5), curvature=Curvature(lambda_max=sharp), lines=[line], path=path
    )  # fmt: skip


def signals_of(baseline, variant):
    return give_verdict(baseline, variant, compare_to_float(baseline, variant)).signals


COIN = "the coin in the well: λmax falls to 0.400 × the float model's while the basin narrows to 0.498 × its width"


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        (around("int3", 4.0, [0.5, 0.62, 0.43]), True),
        (around("int3", 4.0, [1.0, 1.25, 0.88]), False),  # flatter, and as wide
        (around("int3", 12.0, [0.5, 0.62, 0.43]), False),  # sharper and narrower: no coin
        (around("int3", 9.9, [0.5, 0.62, 0.43], spread=0.02), False),  # within the uncertainty of λ
        (around("int3", 4.0, [0.2, 1.9, 0.6]), False),  # narrower on the mean, by chance
        (around("int3", 4.0, [0.5, None, None]), False),  # one direction has no error
    ],
)
def test_the_coin_in_the_well_is_said_where_it_is(variant, told):
    found = signals_of(around("FP32", 10.0, [1.0, 1.2, 0.9]), variant)
    assert any(signal.startswith("the coin in the well") for signal in found) is told
    if told:
        assert found[0] == COIN


@pytest.mark.parametrize(
    ("widths", "change"),
    [
        ([0.5, 0.62, 0.43], "narrower"),
        ([1.5, 1.9, 1.3], "wider"),
        ([1.0, 1.25, 0.88], "alike"),
        ([0.2, 1.9, 0.6], "alike"),  # half as wide on the mean, by chance
    ],
)
def test_whether_basins_differ_by_more_than_their_band_is_in_the_evidence(widths, change):
    """t(2) at 97.5 % is 4.3027: the interval of the mean ratio by hand."""
    baseline = around("FP32", 10.0, [1.0, 1.2, 0.9])
    variant = around("int3", 10.0, widths)
    found = give_verdict(baseline, variant, compare_to_float(baseline, variant)).basin
    ratios = [one / two for one, two in zip(widths, [1.0, 1.2, 0.9], strict=True)]
    error = statistics.stdev(ratios) / 3**0.5
    assert found.change == change
    assert (found.ratio, found.directions) == (pytest.approx(statistics.mean(ratios)), 3)
    assert found.high - found.ratio == pytest.approx(4.302653 * error) == pytest.approx(found.ratio - found.low)
    assert ("no different" in basin_words({"int3": found})) == (change == "alike")


def test_one_direction_tells_of_no_difference():
    baseline, variant = around("FP32", 10.0, [1.0]), around("int3", 10.0, [0.2])
    found = give_verdict(baseline, variant, compare_to_float(baseline, variant)).basin
    assert (found.change, found.low) == (None, None)
    assert "takes three directions or more" in basin_words({"int3": found})
    two = basin_of(around("FP32", 10.0, [1.0, 1.2]), around("int3", 10.0, [0.5, 0.6]))
    assert (two.directions, two.change) == (2, None), "Student's factor with two is 12.7"


def basin_of(baseline, variant):
    return give_verdict(baseline, variant, compare_to_float(baseline, variant)).basin


@pytest.mark.parametrize(
    ("before", "after", "known"),
    [([1.0, 1.2, 0.9, 1.1], [0.5, 0.62, 0.43, None], 3), ([1.0, None], [0.2, 0.3], 1), ([None], [0.2], 0)],
)
def test_a_line_that_stays_in_the_basin_is_wide_and_never_left_out_of_the_mean(before, after, known):
    baseline, variant = around("FP32", 10.0, before), around("int3", 4.0, after)
    found = basin_of(baseline, variant)
    assert (found.directions, found.open_directions, found.change) == (known, 1, None)
    assert "does not leave the basin" in basin_words({"int3": found})
    assert not any("narrows" in signal for signal in signals_of(baseline, variant))


def test_a_variant_without_a_loss_has_no_basin_rather_than_an_open_one():
    nowhere = around("int2", 4.0, [None] * 3)
    nowhere.lines[0].alphas, nowhere.lines[0].loss = [-1.0, 0.0, 1.0], [1.0, None, 1.0]
    assert basin_of(around("FP32", 10.0, [1.0, 1.2, 0.9]), nowhere) is None


def test_the_basin_narrows_on_random_directions_beyond_their_spread_alone():
    def narrows(widths, direction="random"):
        pair = around("FP32", 10.0, [1.0, 1.2, 0.9]), around("int3", 10.0, widths)
        for item, mean in zip(pair, (1.0, 0.5), strict=True):
            item.lines[0].direction, item.lines[0].basin_width = direction, mean
        return [signal for signal in signals_of(*pair) if "the basin narrows" in signal]

    assert narrows([0.5, 0.62, 0.43]) == ["the basin narrows to 0.498 × the float model's width, on 3 directions"]
    assert not narrows([0.2, 1.0, 0.3]), "half as wide on the mean line, by chance"
    assert not narrows([0.5, 0.62, 0.43], "gradient"), "one line's width is not the basin's"


def test_a_barrier_higher_than_the_basin_is_named():
    baseline = around("FP32", 10.0, [1.0, 1.2, 0.9])
    assert "a barrier of 0.300 stands between FP32 and the variant" in signals_of(
        baseline, around("int2", 10.0, [1.0, 1.2, 0.9], barrier=0.3)
    )
    assert not signals_of(baseline, around("int2", 10.0, [1.0, 1.2, 0.9], barrier=0.09))
