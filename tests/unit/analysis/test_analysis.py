"""A run in one process: the same digits each time, every input at fault told, and what a worker asks of a workbench."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from quant_lens_engine.analysis import Workbench, analyze, check_baseline
from quant_lens_engine.errors import Cancelled, DataError, DeviceError, InputError, QuantLensError, SchemeError
from quant_lens_engine.execution import FEWEST_IN_CACHE, MOST_THREADS, available_cores, computing, resolve_execution
from quant_lens_engine.intake import ARCHITECTURES, architecture, example_path
from quant_lens_engine.intake.datasets.digits import digits_split
from quant_lens_engine.quantization.catalog import available_algorithms
from quant_lens_engine.report import written_report
from quant_lens_engine.schema import (
    PAYLOADS,
    Execution,
    StageKey,
    assemble,
    parse_run_spec,
    plan_stages,
    plan_units,
    stage_fingerprint,
)
from quant_lens_engine.schema.estimate import estimate
from quant_lens_engine.subject import Subject, file_sha256

QUICK = {"preset": "quick", "curvature": {"trace_probes": 2, "max_products": 8, "tolerance": 0.1}, "line": {"steps": 3}}


def spec(model="digits-mlp", data=None, **changes):
    data = data or {"example": "digits", "limit": 60}
    given = {"model": {"example": model}, "data": data, "schemes": ["int8", "int2"], "analyses": QUICK}
    return parse_run_spec(given | changes)


def without_times(record):
    def strip(value):
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key != "elapsed_s"}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(record.model_dump(mode="json"))


@pytest.fixture
def upload(tmp_path):
    """Files by their hash, as a worker has them: stored under a name of the store's own."""
    files = {}

    def add(content):
        place = tmp_path / f"new-{len(files)}"
        if isinstance(content, dict):
            torch.save(content, place)
        else:
            with place.open("wb") as file:
                np.savez(file, **dict(zip("xy", content, strict=False)))
        sha256 = file_sha256(place)
        files[sha256] = place.rename(tmp_path / sha256)
        return {"file": sha256}

    add.files = files
    return add


def mlp_state():
    return safetensors.torch.load_file(example_path("digits-mlp"))


def refused(given, files, code):
    with pytest.raises(InputError) as caught:
        analyze(given, files=files)
    error = caught.value
    assert error.code == code, error.as_dict()
    assert error.hint
    said = json.dumps(error.as_dict())
    for path in files.values():
        assert str(path.parent) not in said
        assert path.name not in error.message, "a store's name for a file says nothing to its owner"
    return error


# ---- the run


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn", "digits-transformer"])
def test_a_run_measures_everything_and_again_the_same(model):
    first = analyze(spec(model))
    assert [variant.name for variant in first.variants] == ["FP32", "int8", "int2"]
    assert not first.failures
    for variant in first.variants:
        assert variant.evaluation.samples == 60
        assert variant.curvature.lambda_max.value > 0
        assert {line.landscape for line in variant.lines} == {"deployed", "smooth"}
    assert [comparison.verdict is not None for comparison in first.comparisons] == [True, True]
    assert first.comparisons[1].verdict.level == "collapsed"
    assert without_times(first) == without_times(analyze(spec(model)))


def test_the_result_says_what_was_measured_on_what():
    result = analyze(spec())
    model, data = result.model, result.data
    assert (model.architecture, model.format, model.parameters) == ("digits-mlp", "safetensors", 3466)
    assert model.sha256 == file_sha256(example_path("digits-mlp"))
    assert model.size_bytes == example_path("digits-mlp").stat().st_size
    assert (data.samples, data.available, data.classes) == (60, 360, 10)
    assert (data.calibration_samples, data.overlap) == (0, False)
    assert result.execution.keys() == {"device", "dtype", "threads", "micro_batch", "hvp_plan"}


def test_an_upload_gives_the_digits_of_the_example(upload):
    held_out = digits_split()[1]
    data = upload((held_out.x, held_out.y)) | {"limit": 60}
    uploaded = parse_run_spec(spec().model_dump(mode="json") | {"model": upload(mlp_state()), "data": data})
    found, expected = analyze(uploaded, files=upload.files), analyze(spec())
    assert [without_times(variant) for variant in found.variants] == [
        without_times(variant) for variant in expected.variants
    ]


def test_stages_one_by_one_in_any_workbench_give_the_run(upload):
    """A worker may take one unit, die, and another one the next: the digits are those of one process."""
    whole = analyze(spec())
    known = {}
    block = None
    for unit in plan_units(spec()):
        bench = Workbench.open(spec(), files={}, execution=block)
        for key in unit.stages:
            payload = bench.run(key, known)
            known[key] = PAYLOADS[key.kind].model_validate_json(payload.model_dump_json())
        block = known[StageKey("inspect")].execution
    assert without_times(assemble(spec(), known)) == without_times(whole)


def test_a_float64_run_agrees_with_float32():
    single, double = analyze(spec()), analyze(spec(execution={"dtype": "float64"}))
    for one, other in zip(single.variants, double.variants, strict=True):
        assert one.evaluation.loss == pytest.approx(other.evaluation.loss, rel=1e-5)
        assert one.effective_bits == other.effective_bits


def test_progress_names_every_stage_and_ends_it():
    class Watch:
        def __init__(self):
            self.seen = {}

        def report(self, stage, done, total, note=""):
            assert 0 <= done <= total
            self.seen[stage] = done, total

        def check_cancelled(self):
            pass

    watch = Watch()
    analyze(spec(), progress=watch)
    computed = {str(key) for key in plan_stages(spec()) if key.kind != "verdict"}
    assert watch.seen.keys() == computed
    for stage in ("inspect", "evaluate/int8", "line/int2", "activations/int8", "batchnorm/FP32"):
        assert watch.seen[stage][0] == watch.seen[stage][1]


def test_a_cancel_is_obeyed_and_leaves_torch_as_it_was():
    class Impatient:
        def report(self, stage, done, total, note=""):
            self.stage = stage

        def check_cancelled(self):
            if self.stage == "curvature/int8":
                raise Cancelled("enough")

    threads = torch.get_num_threads()
    with pytest.raises(Cancelled):
        analyze(spec(), progress=Impatient())
    assert torch.get_num_threads() == threads


def test_a_stage_that_fails_is_listed_and_the_others_go_on(monkeypatch):
    real = Workbench._compute

    def compute(self, key, known, checkpoint):
        if key == StageKey("line", "int8"):
            raise QuantLensError("no line today", code="no_line")
        return real(self, key, known, checkpoint)

    monkeypatch.setattr(Workbench, "_compute", compute)
    result = analyze(spec())
    assert [(item.stage, item.variant, item.code) for item in result.failures] == [("line", "int8", "no_line")]
    assert result.variant("int8").lines == []
    assert result.comparison("int2").verdict is not None


def test_fingerprints_tell_plugins_apart(tmp_path):
    plugin = Path(__file__).parents[3] / "examples" / "plugins" / "cifar_resnet.py"
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "cifar_resnet.py").write_text(plugin.read_text())
    from quant_lens_engine.intake import load_plugins

    load_plugins(tmp_path / "p")
    widths = {"layer1.0.conv1.weight": (4,), "layer2.0.conv1.weight": (8,), "layer3.0.conv1.weight": (8,)}
    torch.save(ARCHITECTURES["cifar-resnet"].build(widths).state_dict(), tmp_path / "m.pt")
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 3, 8, 8), np.float32), y=np.zeros(4, int))
    files = {name: tmp_path / name for name in ("m.pt", "d.npz")}
    given = parse_run_spec(
        {"model": {"path": "m.pt"}, "data": {"path": "d.npz"}, "schemes": ["int8"], "analyses": QUICK}
    )

    def fingerprint():
        inspect = Workbench.open(given, files=files, plugins=tmp_path / "p").inspect()
        assert inspect.architecture_source is not None
        return stage_fingerprint(given, inspect, StageKey("evaluate", "int8"))

    first = fingerprint()
    with (tmp_path / "p" / "cifar_resnet.py").open("a") as file:
        file.write("\n# another version\n")
    assert fingerprint() != first
    for path in (tmp_path / "p").iterdir():
        path.unlink()
    load_plugins(tmp_path / "p")


# ---- inputs at fault


def test_labels_out_of_range(upload):
    x = digits_split()[1].x[:20]
    y = np.arange(20) % 10
    y[13] = 12
    error = refused(parse_run_spec({"model": {"example": "digits-mlp"}, "data": upload((x, y)), "schemes": ["int8"]}),
                    upload.files, "label_out_of_range")  # fmt: skip
    assert "label 12 at row 13, but the model has 10 classes (0 to 9)" in error.message
    assert error.details == {"row": 13, "label": 12, "classes": 10}


def test_rows_of_another_shape(upload):
    data = upload((np.zeros((5, 3, 32, 32), np.float32), np.zeros(5, int)))
    error = refused(parse_run_spec({"model": {"example": "digits-cnn"}, "data": data, "schemes": ["int8"]}),
                    upload.files, "wrong_shape")  # fmt: skip
    assert "[3, 32, 32]" in error.message


def test_non_finite_weights(upload):
    state = mlp_state()
    state["hidden2.weight"][0, 0] = float("inf")
    error = refused(parse_run_spec({"model": upload(state), "data": {"example": "digits"}, "schemes": ["int8"]}),
                    upload.files, "non_finite_weights")  # fmt: skip
    assert error.details == {"tensors": ["hidden2.weight"]}


def test_non_finite_data(upload):
    held_out = digits_split()[1]
    x = held_out.x[:30].copy()
    x[4] = np.nan
    refused(spec(data=upload((x, held_out.y[:30]))), upload.files, "non_finite_data")


def test_files_that_are_not_there():
    given = {"model": {"file": "0" * 64}, "data": {"example": "digits"}, "schemes": ["int8"]}
    assert refused(parse_run_spec(given), {}, "file_not_found").hint == "upload it first"
    given["model"] = {"path": "secret/m.pt"}
    assert "secret" not in refused(parse_run_spec(given), {}, "file_not_found").message


@pytest.mark.parametrize(("model", "data"), [("nope", "digits"), ("digits-mlp", "nope")])
def test_unknown_examples(model, data):
    refused(spec(model, data={"example": data}), {}, {"nope": "unknown_example"}.get(model, "unknown_example_data"))


def test_a_task_without_data_here():
    with pytest.raises(DataError) as caught:
        analyze(spec(task="causal-lm"))
    assert caught.value.code == "not_text"


def test_a_device_that_is_not_here():
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA, so asking for it is no error")
    with pytest.raises(DeviceError):
        analyze(spec(execution={"device": "cuda"}))


def test_a_model_that_does_not_answer_with_classes(upload):
    @architecture("maps-only")
    def build(tensors):
        return nn.Conv2d(1, 2, 3)

    try:
        refused(parse_run_spec({"model": upload(nn.Conv2d(1, 2, 3).state_dict()), "data": {"example": "digits"},
                                "schemes": ["int8"]}), upload.files, "bad_output")  # fmt: skip
    finally:
        ARCHITECTURES.discard("maps-only")


# ---- other tasks


def test_a_regression_is_not_broadcast(upload):
    """(rows,) against (rows, 1) would silently become (rows, rows)."""
    torch.manual_seed(0)
    stack = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    y = x.sum(1)
    given = parse_run_spec({"model": upload(stack.state_dict()), "data": upload((x, y)), "task": "regression",
                            "schemes": ["int8"], "analyses": QUICK})  # fmt: skip
    result = analyze(given, files=upload.files)
    with torch.no_grad():
        expected = float(((stack(torch.from_numpy(x))[:, 0] - torch.from_numpy(y)) ** 2).mean())
    assert result.variant("FP32").evaluation.loss == pytest.approx(expected, rel=1e-5)
    assert result.variant("int8").evaluation.accuracy is None
    assert result.comparison("int8").verdict.level == "safe"


def test_self_distillation_needs_no_labels(upload):
    given = parse_run_spec({"model": {"example": "digits-mlp"}, "data": upload((digits_split()[1].x[:40],)),
                            "task": "self-distillation", "schemes": ["int8", "int2"], "analyses": QUICK})  # fmt: skip
    result = analyze(given, files=upload.files)
    assert result.variant("FP32").evaluation.loss == pytest.approx(0, abs=1e-6)
    assert result.variant("int2").evaluation.loss > result.variant("int8").evaluation.loss > 0


# ---- how it is computed


def test_the_block_is_settled_by_shape_and_stays(monkeypatch):
    subject = Subject.read(spec(), {})
    asked = []

    def objective(block):
        asked.append(dict(block))
        return subject.objective(block)

    block = resolve_execution(Execution(), objective, batch_size=128)
    assert block == resolve_execution(Execution(), objective, batch_size=128)
    assert block["threads"] == 1, "a digit's micro-batch is too little for two threads"
    assert block["micro_batch"] == 128
    monkeypatch.setattr("quant_lens_engine.execution.GRAPH_BYTES", {"cpu": 20_000, "cuda": 20_000})
    monkeypatch.setattr("quant_lens_engine.execution.PARALLEL_OPERATIONS", 1.0)
    small = resolve_execution(Execution(), objective, batch_size=128)
    assert 1 <= small["micro_batch"] < 128
    assert small["micro_batch"].bit_count() == 1
    assert small["threads"] == min(available_cores(), MOST_THREADS)
    fixed = resolve_execution(
        Execution(device="cpu", dtype="float64", threads=3, micro_batch=7, hvp_plan="fresh"), objective, batch_size=128
    )
    assert fixed == {"device": "cpu", "dtype": "float64", "threads": 3, "micro_batch": 7, "hvp_plan": "fresh"}


def test_activations_of_a_micro_batch_stay_in_cache(monkeypatch):
    subject = Subject.read(spec(), {})
    monkeypatch.setattr("quant_lens_engine.execution.CACHE_BYTES", 20_000)
    block = resolve_execution(Execution(), subject.objective, batch_size=128)
    model = subject.objective(block).model
    widest = max(layer.out_features for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    assert block["micro_batch"] * widest * 4 <= 20_000 < 2 * block["micro_batch"] * max(widest, 64) * 4
    assert not any(module._forward_hooks for module in model.modules())
    monkeypatch.setattr("quant_lens_engine.execution.CACHE_BYTES", 1)
    assert resolve_execution(Execution(), subject.objective, batch_size=128)["micro_batch"] == FEWEST_IN_CACHE
    assert resolve_execution(Execution(), subject.objective, batch_size=4)["micro_batch"] == 4


def test_micro_batches_do_not_decide_the_answer():
    few, many = analyze(spec(execution={"micro_batch": 7})), analyze(spec(execution={"micro_batch": 60}))
    for one, other in zip(few.variants, many.variants, strict=True):
        assert one.evaluation.loss == pytest.approx(other.evaluation.loss, rel=1e-6)
        assert one.curvature.trace.value == pytest.approx(other.curvature.trace.value, rel=1e-3)


def test_torchs_settings_come_back():
    before = torch.get_num_threads(), torch.backends.cudnn.deterministic

    def fail_inside():
        with computing({"threads": 1}):
            assert torch.backends.cudnn.deterministic
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert (torch.get_num_threads(), torch.backends.cudnn.deterministic) == before


def test_the_measured_file_is_no_other_file_to_calibrate_on(upload):
    held_out = digits_split()[1]
    source = upload((held_out.x[:80], held_out.y[:80]))
    asked = {"model": {"example": "digits-mlp"}, "schemes": ["w8a8"], "analyses": QUICK}
    for limit, rows, overlap in ((40, 40, False), (70, 80, True)):
        data = {**source, "limit": limit, "calibration": {"file": source["file"]}}
        facts = Workbench.open(parse_run_spec(asked | {"data": data}), files=upload.files).inspect().data
        assert (facts.calibration_samples, facts.calibration_sha256, facts.overlap) == (rows, None, overlap)


# ---- before the run


def test_the_baseline_check():
    check = check_baseline(spec("digits-cnn"), {}, rows=50)
    assert (check.architecture, check.samples, check.available, check.outputs) == ("digits-cnn", 50, 360, 10)
    assert check.accuracy > 0.9
    assert check.agrees
    assert check.message == "labels and transform agree"
    assert 0 < check.seconds_per_row < 0.1


def test_the_baseline_check_looks_at_no_scheme():
    data = {"example": "digits", "calibration": {"file": "0" * 64}}  # a file that is not there
    asked = spec("digits-mlp", data, schemes=["w8a8", "int4+no-such-algorithm"])
    assert check_baseline(asked, {}, rows=50).samples == 50


def test_the_baseline_check_doubts_a_wrong_transform(upload):
    held_out = digits_split()[1]
    wrong = upload((held_out.x, np.random.default_rng(0).permutation(held_out.y)))
    check = check_baseline(
        parse_run_spec({"model": {"example": "digits-cnn"}, "data": wrong, "schemes": ["int8"]}), upload.files
    )
    assert not check.agrees
    assert "commonest class" in check.message
    assert "transform" in check.hint


def test_a_run_at_chance_says_so_in_its_verdict(upload):
    held_out = digits_split()[1]
    wrong = upload((held_out.x, np.random.default_rng(0).permutation(held_out.y)))
    asked = {"model": {"example": "digits-mlp"}, "data": wrong, "schemes": ["int8"], "analyses": QUICK}
    result = analyze(parse_run_spec(asked), files=upload.files)
    float_model = result.variant("FP32").evaluation
    assert float_model.chance == np.bincount(held_out.y).max() / len(held_out.y)
    verdict = result.comparison("int8").verdict
    assert verdict.level != "safe"
    assert "labels, transform or layout may be wrong" in verdict.reasons[0]
    assert "labels, transform or layout may be wrong" in " ".join(written_report(result).split())


def test_the_baseline_check_doubts_a_model_far_below_itself():
    forgotten = {"example": "digits", "transform": {"mean": [1.0]}}
    check = check_baseline(
        parse_run_spec({"model": {"example": "digits-cnn"}, "data": forgotten, "schemes": ["int8"]}), {}
    )
    assert 0.25 < check.accuracy < 0.5, "the case lies between guessing and a trained model"
    assert not check.agrees
    assert "low for a trained model" in check.message
    assert "mean" in check.hint


@pytest.mark.parametrize(
    ("recipe", "code", "said"),
    [
        ("int4+skip:nope", "no_such_layer", "'nope'"),
        ("int4+skip:*", "nothing_to_quantize", "leaves every layer of this model in float"),
        ("int4+skip:kind.Linear", "nothing_to_quantize", "leaves every layer of this model in float"),
        ("float", "nothing_to_quantize", "rounds nothing"),
        ("int4+only:kind.Conv2d", "no_such_layer", "'kind.Conv2d'"),
    ],
)
def test_a_recipe_that_does_not_go_with_the_model_is_told_before_anything_is_measured(recipe, code, said):
    stages = []

    class Watching:
        def report(self, stage, done, total, note=""):
            stages.append(stage)

        def check_cancelled(self):
            pass

    with pytest.raises(SchemeError, match=re.escape(said)) as refused:
        analyze(spec(schemes=["int8", recipe]), progress=Watching())
    assert refused.value.code == code
    assert set(stages) == {"inspect"}


def test_the_estimate_knows_that_an_adaptive_plane_measures_fewer_points():
    def planned(**plane):
        return estimate(spec(analyses={"plane": {"steps": 41, **plane}}), 1000, 1e-4)

    full, usual, tight = planned(), planned(sampling="adaptive"), planned(sampling="adaptive", tolerance=0.075)
    assert usual.by_stage["plane"] == pytest.approx(0.54 * full.by_stage["plane"])
    assert tight.by_stage["plane"] == pytest.approx(0.66 * full.by_stage["plane"], rel=0.01)
    assert usual.assumed == ["adaptive planes: 54% of a full plane's time, as on our examples"]
    assert not full.assumed
    deployed = {"variants": ("int8",), "landscapes": ("deployed",)}
    assert planned(sampling="adaptive", **deployed).by_stage == planned(**deployed).by_stage, "measured in full"


def test_the_estimate_grows_with_the_work():
    base = estimate(spec(), 1000, 1e-4)
    assert base.total_s == pytest.approx(sum(base.by_stage.values()))
    assert base.stages == len(list(plan_stages(spec())))
    assert estimate(spec(), 2000, 1e-4).by_stage["curvature"] == pytest.approx(2 * base.by_stage["curvature"])
    assert estimate(spec(analyses={"preset": "standard"}), 1000, 1e-4).total_s > base.total_s
    assert estimate(spec(schemes=["int8", "int4", "int2"]), 1000, 1e-4).by_stage["line"] > base.by_stage["line"]


def test_the_estimate_counts_what_a_recipe_takes():
    algorithms = available_algorithms()

    def of(name):
        return estimate(spec(schemes=[name]), 1000, 1e-4, algorithms).by_stage

    plain, gptq, trained, longer = map(of, ["int4", "int4+gptq", "int4+qat", "int4+qat:steps=2000"])
    known = {facts.name: facts.passes for facts in algorithms}
    calibration = 256 * 1e-4
    assert gptq["evaluate"] - plain["evaluate"] == pytest.approx(known["gptq"] * calibration)
    assert longer["evaluate"] - plain["evaluate"] == pytest.approx(10 * (trained["evaluate"] - plain["evaluate"]))
    assert of("w8a8-dynamic")["line"] > plain["line"]
    assert of("w8a8")["evaluate"] - of("w8a8-dynamic")["evaluate"] == pytest.approx(calibration)


def test_activations_and_batchnorm_are_stages_that_can_be_left_out():
    found = analyze(spec(schemes=["w8a8"]))
    plain, rounded = (found.variant(name) for name in ("FP32", "w8a8"))
    assert plain.activation_statistics.samples == found.data.samples
    assert [layer.quantized for layer in plain.activation_statistics.layers] == [False] * 3
    assert all(layer.sqnr_db > 20 and layer.input for layer in rounded.activation_statistics.layers)
    assert plain.batchnorm.reason == "the model has no batch normalisation"
    off = {"activations": {"enabled": False}, "batchnorm": {"enabled": False}}
    asked = spec(analyses={"preset": "quick", "line": {"steps": 3}, **off})
    assert not {key.kind for key in plan_stages(asked)} & {"activations", "batchnorm"}
    assert {"activations", "batchnorm"} <= {key.kind for key in plan_stages(spec())}


def test_new_running_statistics_come_from_calibration_rows_where_a_recipe_has_them():
    asked = {"model": "digits-cnn", "analyses": {"preset": "quick", "line": {"steps": 3}}}
    own, shared = (analyze(spec(schemes=[name], **asked)).variant(name).batchnorm for name in ("w8a8", "int2"))
    assert (own.reestimation.overlap, own.reestimation.layers) == (False, 2)
    assert shared.reestimation.overlap
    assert shared.reestimation.delta_loss < 0, "two bits move every channel: new statistics bring much of it back"
    assert shared.layers[0].mean_shift_worst > own.layers[0].mean_shift_worst
