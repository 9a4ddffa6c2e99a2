"""The printed report."""

import pytest

from quant_lens_engine import QuantDiagnostic
from quant_lens_engine.report import WIDTH, written_report
from quant_lens_engine.schema import Comparison, Curvature, Eigenvalue, RunResult, StageFailure, Variant, numbers
from quant_lens_engine.schema.curvature import Density
from quant_lens_engine.schema.curvature_notes import curvature_notes
from tests.unit.figures.results import recipes


def test_the_ratio_of_every_variant_is_there(diagnostic: QuantDiagnostic, result: RunResult) -> None:
    section = diagnostic.report().split("Sharpness ratio")[1].split("\n\n")[0]
    for comparison in result.comparisons:
        line = next(line for line in section.splitlines() if line.split()[:1] == [comparison.variant])
        assert f"{numbers.number(comparison.sharpness_ratio)} ×" in line
        assert ("sharper than 1.5 ×" in line) == (comparison.sharpness_ratio > 1.5)


def test_every_variant_has_its_verdict_loss_and_curvature(diagnostic: QuantDiagnostic, result: RunResult) -> None:
    report = diagnostic.report()
    for variant in result.variants:
        rows = [line for line in report.splitlines() if line.split()[:1] == [variant.name]]
        assert any(numbers.number(variant.evaluation.loss) in row or "±" in row for row in rows)
        assert len(rows) >= 2
    for comparison in result.comparisons:
        assert f"{comparison.variant}: {comparison.verdict.level}." in report


def test_both_ends_of_the_spectrum_and_the_layers_are_told(diagnostic: QuantDiagnostic, result: RunResult) -> None:
    report = diagnostic.report()
    section = report.split("Eigenvalues of both ends")[1].split("\n\n")[0]
    curvature = result.variants[0].curvature
    assert numbers.number(curvature.largest[0].value, digits=4) in section
    assert numbers.number(curvature.smallest[0].value, digits=4) in section
    layers = report.split("Curvature by layer, FP32")[1].split("\n\n")[0]
    assert [layer.name for layer in curvature.layers if layer.name in layers] == ["0", "3"]
    assert "Effective rank" in report
    assert "ASAM rise" in report


def test_an_eigenvalue_without_an_interval_is_marked_and_no_note_speaks_of_one() -> None:
    reason = "not within the tolerance"
    sure, open_ended = Eigenvalue(value=3.0, lower=3.0, upper=4.0, confidence=0.95), Eigenvalue(value=2.0)
    for first, second, marked in ((sure, open_ended, "3.000 [3.000 to 4.000], 2.000?"), (open_ended, sure, "2.000?")):
        curvature = Curvature(lambda_max=first, lambda_min=sure, largest=[first, second], reason=reason, cut_off=True)
        report = written_report(RunResult(variants=[Variant(name="FP32", curvature=curvature)]))
        said = " ".join(report.split())
        assert marked in said
        assert "? marks one without an interval" in said
        assert ("the interval says" in said) == (first is sure)
        assert ("λmax or λmin has no interval" in said) == (first is not sure)
        assert max(map(len, report.splitlines())) <= WIDTH


def test_what_was_given_up_for_want_of_memory_is_told() -> None:
    lowered = Curvature(lambda_max=Eigenvalue(value=1.0), converged=True, lowered=["graphs are not kept"])
    report = written_report(RunResult(variants=[Variant(name="FP32", curvature=lowered)]))
    assert "FP32: for want of memory: graphs are not kept" in report


def test_a_density_of_one_process_is_said_to_have_no_band() -> None:
    note = "the density has no band: one process"
    one, several = Density(x=[0.0], y=[1.0], runs=1), Density(x=[0.0], y=[1.0], low=[0.5], high=[1.5], runs=5)
    assert note in curvature_notes(Curvature(density=one))
    assert note not in curvature_notes(Curvature(density=several)) + curvature_notes(Curvature())


def test_it_fits_a_terminal_and_has_no_thin_space(diagnostic: QuantDiagnostic) -> None:
    report = diagnostic.report()
    assert max(map(len, report.splitlines())) <= WIDTH + 10
    assert numbers.THIN_SPACE not in report


def test_skipped_layers_are_listed_once_with_their_reason(diagnostic: QuantDiagnostic) -> None:
    assert diagnostic.report().count("In float in Int8, Int4, int2: 1 (BatchNorm1d has only vectors") == 1


@pytest.mark.parametrize(
    ("reference", "own", "words"),
    [
        (Curvature(), Curvature(reason="attention has no second derivative"), "attention has no second derivative"),
        (Curvature(), Curvature(lambda_max=Eigenvalue(value=1.0)), "λmax(FP32) is not known"),
        (
            Curvature(lambda_max=Eigenvalue(value=0.1, residual=0.2)),
            Curvature(lambda_max=Eigenvalue(value=1.0)),
            "within its own uncertainty of zero",
        ),
    ],
)
def test_a_ratio_that_is_missing_has_its_reason(reference: Curvature, own: Curvature, words: str) -> None:
    result = RunResult(
        variants=[Variant(name="FP32", curvature=reference), Variant(name="int8", curvature=own)],
        comparisons=[Comparison(variant="int8")],
    )
    assert words in written_report(result)


def test_how_each_variant_was_made_is_told_in_the_columns_of_a_terminal() -> None:
    report = written_report(recipes())
    assert max(map(len, report.splitlines())) <= WIDTH + 10
    said = " ".join(report.split())
    for words in (
        "100 rows · calibrated on 120",
        "W8A8 and W4A8 + SmoothQuant + GPTQ were calibrated on rows that they are measured on",
        "w8a8: INT8, symmetric; fp32 scale = amax / 127, one a channel; activations INT8, asymmetric, static",
        "quantized 2 layers, calibrated on 120 rows (static activation ranges); fc1 from −0.250 to 4.48",
        "w4a8+smoothquant:alpha=0.7+gptq+skip:head: INT4",
        "note: deployed landscape: scales stay as they are",
        "In float in w4a8+smoothquant:alpha=0.7+gptq+skip:head: fc2 (left in float by +skip:head).",
    ):
        assert words in said, words
    assert any(line.startswith("  w4a8+smoothquant+gptq") for line in report.splitlines())  # its row in a table


def test_failed_stages_are_named() -> None:
    failure = StageFailure(stage="curvature", variant="int8", code="numerical_error", message="no second derivative")
    assert "curvature of int8 failed: no second derivative" in written_report(RunResult(failures=[failure]))


def test_a_run_without_any_measurement_says_only_why() -> None:
    failure = StageFailure(stage="inspect", code="unknown_architecture", message="unknown architecture 'nope'")
    comparisons = [Comparison(variant="int8")]
    variants = [Variant(name="FP32"), Variant(name="int8")]
    report = written_report(RunResult(variants=variants, comparisons=comparisons, failures=[failure]))
    assert report.splitlines()[-1] == "inspect failed: unknown architecture 'nope'"
    assert "Sharpness" not in report
    assert "±" not in report


def test_an_empty_result_is_a_report_too() -> None:
    assert written_report(RunResult()).startswith("Quant Lens")
