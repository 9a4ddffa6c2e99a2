"""Which rows ranges and algorithms look at: others than those of the evaluation, or it is said."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from quant_lens_engine.analysis import Workbench, analyze
from quant_lens_engine.errors import DataError, SchemeError, SpecError
from quant_lens_engine.intake.datasets.digits import digits_split
from quant_lens_engine.schema import StageKey, parse_run_spec
from quant_lens_engine.subject import Subject, file_sha256

QUICK = {"preset": "quick", "curvature": {"trace_probes": 2, "max_products": 6, "tolerance": 0.1}, "line": {"steps": 3}}
X, Y = digits_split()[1].x, digits_split()[1].y


@pytest.fixture
def upload(tmp_path):
    """Arrays as a file, by its hash."""
    files = {}

    def add(x, y):
        place = tmp_path / f"new-{len(files)}.npz"
        np.savez(place, x=x, y=y)
        sha256 = file_sha256(place)
        files[sha256] = place
        return sha256

    add.files = files
    return add


def spec(data=None, schemes=("w8a8",), **changes):
    given = {
        "model": {"example": "digits-mlp"},
        "data": data or {"example": "digits", "limit": 60},
        "schemes": list(schemes),
        "analyses": QUICK,
    }
    return parse_run_spec(given | changes)


def numbered(count):
    """Rows that can be told apart by their first pixel."""
    x = X[:count].copy()
    x[:, 0, 0, 0] = np.arange(count) / 1000
    return x, Y[:count]


def numbers(rows):
    return set(np.round(rows.x[:, 0, 0, 0] * 1000).astype(int))


def test_rows_of_the_same_file_that_the_evaluation_leaves(upload):
    sha256 = upload(*numbered(200))
    data = {"file": sha256, "limit": 80, "calibration": {"limit": 50}}
    subject = Subject.read(spec(data), upload.files)
    evaluated, calibrated = numbers(subject.rows), numbers(subject.calibration.rows)
    assert (len(evaluated), len(calibrated)) == (80, 50)
    assert not evaluated & calibrated
    assert not subject.calibration.overlap
    assert subject.calibration.sha256 is None
    assert (subject.calibration.rows.y == Y[sorted(calibrated)]).all()


def test_too_few_rows_are_shared_and_the_result_says_so(upload):
    data = {"file": upload(*numbered(100)), "limit": 80, "calibration": {"limit": 50}}
    result = analyze(spec(data), files=upload.files)
    assert (result.data.calibration_samples, result.data.overlap) == (50, True)
    with pytest.raises(SchemeError) as refused:
        analyze(spec(data, ["int4+qat:steps=1"]), files=upload.files)
    assert refused.value.code == "no_rows_to_train_on"


def test_rows_of_another_file(upload):
    x, y = numbered(60)
    other = upload(1 - x, y)
    data = {"file": upload(x, y), "limit": None, "calibration": {"limit": 40, "file": other}}
    subject = Subject.read(spec(data), upload.files)
    assert len(subject.rows.x) == 60
    assert len(subject.calibration.rows.x) == 40
    assert subject.calibration.rows.x.min() < subject.calibration.rows.x[:, 0, 0, 0].min()
    result = analyze(spec(data), files=upload.files)
    assert (result.data.calibration_samples, result.data.calibration_sha256) == (40, other)
    assert result.data.overlap is False


def test_the_same_file_given_again_has_no_other_rows(upload):
    sha256 = upload(*numbered(60))
    data = {"file": sha256, "limit": None, "calibration": {"limit": 40, "file": sha256}}
    subject = Subject.read(spec(data), upload.files)
    assert subject.calibration.overlap
    data["limit"] = 20
    subject = Subject.read(spec(data), upload.files)
    assert not subject.calibration.overlap
    assert not numbers(subject.rows) & numbers(subject.calibration.rows)


def test_the_example_calibrates_on_the_rows_that_it_was_trained_on():
    subject = Subject.read(spec({"example": "digits", "limit": None}), {})
    training = {row.tobytes() for row in digits_split()[0].x}
    held_out = {row.tobytes() for row in digits_split()[1].x}
    calibrated = {row.tobytes() for row in subject.calibration.rows.x}
    assert len(subject.rows.x) == 360
    assert len(subject.calibration.rows.x) == 256
    assert calibrated <= training
    assert not calibrated & held_out
    assert not subject.calibration.overlap


def test_weights_alone_read_no_calibration_rows(upload):
    """Not even a calibration file that is not there."""
    data = {"example": "digits", "limit": 60, "calibration": {"file": "0" * 64}}
    result = analyze(spec(data, ["int8", "int4-g32+clip", "w8a8-dynamic", "int4+equalize"]))
    assert (result.data.calibration_samples, result.data.calibration_sha256, result.data.overlap) == (0, None, False)
    with pytest.raises(SpecError) as refused:
        analyze(spec(data, ["int8", "int4+gptq"]))
    assert refused.value.code == "file_not_found"
    assert "calibration" in refused.value.message


def test_a_calibration_row_is_transformed_like_any_other(upload):
    x, y = numbered(100)
    transform = {"scale": 2.0, "mean": [0.5], "std": [0.25]}
    data = {"file": upload(x, y), "limit": 40, "transform": transform, "calibration": {"limit": 40}}
    subject = Subject.read(spec(data), upload.files)
    plain = Subject.read(spec(data | {"transform": {}}), upload.files)
    np.testing.assert_allclose(subject.calibration.rows.x, (plain.calibration.rows.x * 2 - 0.5) / 0.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ((lambda x, y: (x[:, :, :4], y)), "wrong_shape"),
        ((lambda x, y: (x, y + 5)), "label_out_of_range"),
        ((lambda x, y: (np.where(x > 0.9, np.nan, x), y)), "non_finite_data"),
    ],
)
def test_calibration_rows_that_do_not_fit(upload, change, code):
    x, y = numbered(60)
    data = {"file": upload(x, y), "limit": 20, "calibration": {"file": upload(*change(x, y))}}
    with pytest.raises(DataError) as refused:
        analyze(spec(data), files=upload.files)
    assert refused.value.code == code


def test_static_ranges_come_from_the_calibration_rows(upload):
    x, y = numbered(60)
    other = upload(x * 3, y)
    data = {"file": upload(x, y), "limit": None, "calibration": {"file": other}}
    result = analyze(spec(data, ["w8a8", "w8a8-dynamic"]), files=upload.files)
    first = result.variant("w8a8").activations[0]
    assert (first.low, first.high) == pytest.approx((0.0, 3 * float(x.max())))
    assert all(item.low is None for item in result.variant("w8a8-dynamic").activations)
    assert [item.name for item in result.variant("w8a8").activations] == [
        layer.name for layer in result.variant("w8a8").layers
    ]


def test_notes_of_a_variant_are_in_the_result():
    result = analyze(spec(schemes=["int3+gptq", "int3", "int4+qat:steps=2"]))
    assert any("deployed landscape" in note for note in result.variant("int3+gptq").notes)
    assert result.variant("int3").notes == []
    (note,) = result.variant("int4+qat:steps=2").notes
    assert note.startswith("trained on 205 calibration rows; ")
    assert "on the 51 held out" in note
    assert ("the loss fell" in note) != ("no step did better" in note)
    json.loads(result.model_dump_json(), parse_constant=pytest.fail)


def test_a_recipe_with_activations_has_every_stage_and_the_same_digits_again():
    given = spec(schemes=["w4a8+smoothquant", "w8a8-percentile", "int3-g32+gptq+skip:head"])
    first, again = analyze(given), analyze(given)
    assert not first.failures
    for one, other in zip(first.variants, again.variants, strict=True):
        assert one.evaluation.loss == other.evaluation.loss
        assert one.curvature.lambda_max.value == other.curvature.lambda_max.value
        assert [line.loss for line in one.lines] == [line.loss for line in other.lines]
        assert {line.landscape for line in one.lines} == {"deployed", "smooth"}
    skipped = {item.name: item.reason for item in first.variant("int3-g32+gptq+skip:head").skipped_layers}
    assert "left in float by +skip:head" in skipped.values()


def test_the_calibration_objective_is_the_evaluations_on_other_rows():
    bench = Workbench.open(spec(), files={})
    rows = bench._calibration
    assert rows is not None
    assert rows.samples == 256
    assert rows.model is bench.measurement.objective.model
    subject = bench.subject
    x = torch.from_numpy(subject.calibration.rows.x)
    with torch.no_grad():
        logits = subject.model(x)
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(subject.calibration.rows.y))
    assert rows.loss() == pytest.approx(float(expected), rel=1e-5)


def test_a_bench_makes_the_variant_on_calibration_rows_alone():
    """The evaluation's rows could be anything: the point stays."""
    bench = Workbench.open(spec(schemes=["int3+gptq"]), files={})
    other = Workbench.open(spec(data={"example": "digits", "limit": 33}, schemes=["int3+gptq"]), files={})
    points = [made._quantized("int3+gptq", "evaluate").point for made in (bench, other)]
    assert all(torch.equal(points[0][name], points[1][name]) for name in points[0])
    assert bench.run(StageKey("evaluate", "int3+gptq"), {}).evaluation.samples == 60
    assert dataclasses.is_dataclass(bench.subject)
