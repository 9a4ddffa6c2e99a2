import pytest

from app.compare import RunComparison, compare_runs
from quant_lens_engine.errors import InputError
from quant_lens_engine.schema import (
    Comparison,
    Curvature,
    DataFacts,
    Eigenvalue,
    Evaluation,
    Line,
    ModelFacts,
    RunRecord,
    RunResult,
    TraceEstimate,
    Variant,
    Verdict,
)


def run(run_id, loss, *, error=0.01, bits=4.0, lambda_max=10.0, model="m" * 64, seed=0, steps=31, state="DONE"):
    int4 = Variant(
        name="int4",
        effective_bits=bits,
        evaluation=Evaluation(loss=loss, loss_standard_error=error, samples=100),
        curvature=Curvature(
            lambda_max=Eigenvalue(value=lambda_max, residual=0.5), trace=TraceEstimate(value=100.0, standard_error=3.0)
        ),
        lines=[Line(landscape="smooth", basin_width=0.5), Line(landscape="deployed", basin_width=0.1)],
    )
    result = RunResult(
        engine_version="1",
        seed=seed,
        model=ModelFacts(sha256=model),
        data=DataFacts(sha256="d" * 64, samples=100),
        variants=[Variant(name="FP32"), int4],
        comparisons=[Comparison(variant="int4", sharpness_ratio=2.0, verdict=Verdict(level="caution"))],
    )
    spec = {"name": run_id, "seed": seed, "schemes": ["int4"], "analyses": {"line": {"steps": steps}}}
    return RunRecord(id=run_id, name=f"run {run_id}", spec=spec, state=state), result


def row(comparison: RunComparison, variant: str, run_id: str):
    table = next(table for table in comparison.variants if table.variant == variant)
    return next(item for item in table.rows if item.run_id == run_id)


def test_the_baseline_comes_first_and_has_no_deltas():
    comparison = compare_runs([run("a", 0.3), run("b", 0.2)], "b")
    assert [item.id for item in comparison.runs] == ["b", "a"]
    assert row(comparison, "int4", "b").values["loss"].delta is None
    assert row(comparison, "int4", "a").values["loss"].delta == pytest.approx(0.1)


def test_a_delta_is_coloured_only_beyond_its_error_and_only_where_the_metric_has_a_direction():
    comparison = compare_runs([run("a", 0.300), run("b", 0.305, bits=5.0, lambda_max=5.0)], "a")
    values = row(comparison, "int4", "b").values
    assert values["loss"].better is None
    assert values["loss"].delta_uncertainty == pytest.approx(0.01 * 2**0.5)
    assert values["effective_bits"].delta == 1.0
    assert values["effective_bits"].better is None
    assert values["lambda_max"].better is True
    assert row(compare_runs([run("a", 0.3), run("b", 0.4)], "a"), "int4", "b").values["loss"].better is False


def test_the_basin_is_the_smooth_landscape_s():
    assert row(compare_runs([run("a", 0.3)]), "int4", "a").values["basin_width"].value == 0.5


def test_what_a_run_does_not_have_is_absent_and_not_zero():
    record, result = run("b", 0.2)
    result.variants.append(Variant(name="int2"))
    comparison = compare_runs([run("a", 0.3), (record, result)], "a")
    assert row(comparison, "int2", "a").present is False
    assert row(comparison, "int2", "b").values["loss"].value is None
    assert row(comparison, "int2", "b").values["loss"].delta is None
    assert row(comparison, "int4", "b").verdict == "caution"


def test_settings_show_differences_only():
    comparison = compare_runs([run("a", 0.3), run("b", 0.3, model="n" * 64, steps=51)], "a")
    differing = {item.setting: item.values for item in comparison.settings}
    assert set(differing) == {"model.sha256", "analyses.line.steps"}
    assert differing["analyses.line.steps"] == {"a": 31, "b": 51}
    assert comparison.settings_total > len(comparison.settings)


def test_names_of_runs_are_no_setting_and_equal_runs_differ_in_nothing():
    assert compare_runs([run("a", 0.3), run("b", 0.3)], "a").settings == []


def test_what_weakens_a_comparison_is_said():
    notes = compare_runs([run("a", 0.3), run("b", 0.3, seed=1, state="RUNNING")], "a").notes
    assert any("seeds differ" in note for note in notes)
    assert any("Not finished yet: run b" in note for note in notes)


@pytest.mark.parametrize(
    ("runs", "baseline"), [([], None), ([run("a", 0.1)], "b"), ([run(f"{n}", 0.1) for n in range(21)], None)]
)
def test_impossible_comparisons_are_refused(runs, baseline):
    with pytest.raises(InputError) as refused:
        compare_runs(runs, baseline)
    assert refused.value.code == "bad_comparison"


def test_recipes_of_one_scheme_are_compared_by_algorithms_and_layers():
    first, second = run("a", 0.3), run("b", 0.2)
    first[0].spec["schemes"] = ["int4", "w8a8", "int3"]
    second[0].spec["schemes"] = ["int4+gptq:act_order=true+skip:head", "w8a8"]
    differing = {item.setting: item.values for item in compare_runs([first, second], "a").settings}
    assert differing["int4: algorithms"] == {"a": ["RTN"], "b": ["gptq:act_order=true"]}
    assert differing["int4: layers"] == {"a": ["all"], "b": ["left in float the layer that runs last"]}
    assert not {"w8a8: algorithms", "int3: algorithms"} & set(differing)


def test_calibration_differs_and_overlap_is_noted():
    first, second = run("a", 0.3), run("b", 0.2)
    first[1].data.calibration_samples, second[1].data.calibration_samples = 256, 64
    second[1].data.overlap = True
    comparison = compare_runs([first, second], "a")
    differing = {item.setting: item.values for item in comparison.settings}
    assert differing["data.calibration_samples"] == {"a": 256, "b": 64}
    assert "Calibrated on rows that are measured too: run b." in comparison.notes
