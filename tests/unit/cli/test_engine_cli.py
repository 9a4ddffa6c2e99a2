"""``quant-lens analyze`` and ``schemes`` as a shell sees them: output, files, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from quant_lens_engine.analysis import analyze
from quant_lens_engine.cli import main
from quant_lens_engine.intake import example_path, folder_sha256
from quant_lens_engine.intake.datasets.digits import digits_split
from quant_lens_engine.quantization.catalog import available_algorithms, available_observers, available_schemes
from quant_lens_engine.schema import RunResult
from quant_lens_engine.schema.scheme_description import FAMILIES
from quant_lens_engine.subject import file_sha256

FAST = ["--preset", "quick", "--limit", "40"]


def the_same(model, scheme):
    data = {"example": "digits", "limit": 40}
    return {"model": {"example": model}, "data": data, "schemes": [scheme], "analyses": {"preset": "quick"}}


def test_a_run_writes_report_json_and_html(tmp_path, capsys):
    json_path, html_path = tmp_path / "r.json", tmp_path / "r.html"
    code = main(["analyze", "digits-mlp", "--data", "digits", "--scheme", "int8", "--scheme", "int2", *FAST,
                 "--json", str(json_path), "--html", str(html_path)])  # fmt: skip
    said = capsys.readouterr()
    assert code == 0
    assert "INT8 is safe to ship." in said.out
    assert said.err == ""
    result = RunResult.model_validate_json(json_path.read_text())
    assert [variant.name for variant in result.variants] == ["FP32", "int8", "int2"]
    assert result.data.samples == 40
    assert "NaN" not in json_path.read_text()
    assert html_path.read_text().startswith("<!doctype html>") or "<html" in html_path.read_text()[:200]


def test_a_recipe_is_named_without_what_is_usual(capsys):
    command = ["analyze", "digits-mlp", "--data", "digits", *FAST, "--json", "-", "--scheme", "int4+clip:steps=8e1"]
    assert main(command) == 0
    found = RunResult.model_validate_json(capsys.readouterr().out)
    assert [variant.name for variant in found.variants] == ["FP32", "int4+clip"]
    assert main([*command, "--scheme", "int4+clip"]) == 2
    assert "are one recipe" in capsys.readouterr().err


def test_options_of_the_curvature_change_those_of_the_preset(capsys):
    asked = ["--curvature", '{"top": 2, "bottom": 3, "sharpness": true}', "--scheme", "int8", "--json", "-"]
    assert main(["analyze", "digits-mlp", "--data", "digits", *FAST, *asked]) == 0
    found = RunResult.model_validate_json(capsys.readouterr().out).variants[0].curvature
    assert (len(found.largest), len(found.smallest), found.density.runs > 0) == (2, 3, True)
    assert found.sharpness.relative_lambda_max.value > 0


def test_analyses_are_switched_off_and_on(capsys):
    asked = ["--no-activations", "--batchnorm", "--scheme", "int8", "--json", "-"]
    assert main(["analyze", "digits-mlp", "--data", "digits", *FAST, *asked]) == 0
    found = RunResult.model_validate_json(capsys.readouterr().out)
    assert all(variant.activation_statistics is None for variant in found.variants)
    assert all(variant.batchnorm is not None for variant in found.variants)


def test_the_numbers_are_those_of_the_same_spec(capsys):
    assert (
        main(["analyze", "digits-mlp", "--data", "digits", "--scheme", "int4", *FAST, "--seed", "5", "--json", "-"])
        == 0
    )
    found = RunResult.model_validate_json(capsys.readouterr().out)
    expected = analyze(the_same("digits-mlp", "int4") | {"seed": 5})
    for one, other in zip(found.variants, expected.variants, strict=True):
        assert one.evaluation.loss == other.evaluation.loss
        assert one.curvature.lambda_max == other.curvature.lambda_max
        assert [line.loss for line in one.lines] == [line.loss for line in other.lines]


def test_files_and_a_transform(tmp_path, capsys):
    held_out = digits_split()[1]
    np.savez(tmp_path / "d.npz", x=(held_out.x[:, 0] * 16).astype(np.uint8), y=held_out.y)
    files = [str(example_path("digits-cnn")), "--data", str(tmp_path / "d.npz")]
    transform = ["--transform", '{"layout": "NHW", "scale": 0.0625}']
    code = main(["analyze", *files, *transform, *FAST, "--scheme", "int8", "--json", "-"])
    found = RunResult.model_validate_json(capsys.readouterr().out)
    expected = analyze(the_same("digits-cnn", "int8"))
    assert code == 0
    assert found.variant("int8").evaluation.loss == expected.variant("int8").evaluation.loss


def test_a_folder_of_data(tmp_path, capsys):
    held_out = digits_split()[1]
    (tmp_path / "rows").mkdir()
    np.save(tmp_path / "rows" / "x.npy", held_out.x)
    np.save(tmp_path / "rows" / "y.npy", held_out.y)
    arguments = ["analyze", "digits-cnn", "--data", str(tmp_path / "rows"), "--scheme", "int8", *FAST, "--json", "-"]
    assert main(arguments) == 0
    found = RunResult.model_validate_json(capsys.readouterr().out)
    assert (
        found.variant("int8").evaluation.loss == analyze(the_same("digits-cnn", "int8")).variant("int8").evaluation.loss
    )
    assert found.data.sha256 == folder_sha256(tmp_path / "rows")
    assert main(["analyze", str(tmp_path / "rows"), "--data", "digits"]) == 2
    assert "is not a checkpoint" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("level", "code"), [("caution", 1), ("collapsed", 1)])
def test_fail_on_a_verdict(capsys, level, code):
    arguments = ["analyze", "digits-mlp", "--data", "digits", "--scheme", "int8", *FAST, "--fail-on", level]
    assert main(arguments) == 0
    capsys.readouterr()
    assert main([*arguments, "--scheme", "int2"]) == code
    assert "int2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope.pt", "--data", "digits"], "neither a file here nor an example"),
        (["digits-mlp", "--data", "nope.npz"], "neither a file here nor an example"),
        (["digits-mlp", "--data", "digits", "--scheme", "int9"], "unknown scheme 'int9'"),
        (["digits-mlp", "--data", "digits", "--architecture", "digits-cnn"], "does not fit digits-cnn"),
        (["digits-mlp", "--data", "digits", "--transform", "{"], "--transform is not JSON"),
        (["digits-mlp", "--data", "digits", "--curvature", "{"], "--curvature is not JSON"),
        (["digits-mlp", "--data", "digits", "--curvature", '{"topp": 3}'], "analyses.curvature.topp"),
        (["digits-mlp", "--data", "digits", "--transform", '{"size": 3}'], "data.transform.size"),
        (["digits-mlp", "--data", "digits", "--limit", "0"], "data.limit"),
        (["digits-mlp", "--data", "digits", "--preset", "hasty"], "hasty"),
        (["digits-mlp", "--data", "digits", "--plugins", "nowhere"], "plug-ins folder"),
        (["digits-mlp"], "--data"),
    ],
)
def test_bad_input_is_exit_code_2_with_a_message(capsys, arguments, words):
    assert main(["analyze", *arguments]) == 2
    said = capsys.readouterr()
    assert words in " ".join(said.err.split())
    assert "Traceback" not in said.err
    assert said.out == ""


def test_a_file_that_is_no_checkpoint(tmp_path, capsys):
    (tmp_path / "m.pt").write_text("I am no checkpoint")
    assert main(["analyze", str(tmp_path / "m.pt"), "--data", "digits"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "m.pt is not a checkpoint" in said
    assert "torch.save(model.state_dict()" in said
    assert str(tmp_path) not in said


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("quant_lens_engine.analysis.analyze", lambda *_, **__: pytest.fail("it worked first"))
    for place in (tmp_path / "missing" / "out.json", tmp_path):
        assert main(["analyze", "digits-mlp", "--data", "digits", *FAST, "--json", str(place)]) == 2
        assert "cannot be written" in " ".join(capsys.readouterr().err.split())  # a long path wraps


def test_an_empty_file_is_named(tmp_path, capsys):
    empty = tmp_path / "empty.pt"
    empty.touch()
    assert main(["analyze", str(empty), "--data", "digits", *FAST]) == 2
    assert "empty.pt" in capsys.readouterr().err


def test_schemes_lists_each_with_its_bits_then_observers_and_algorithms(capsys):
    assert main(["schemes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for facts in available_schemes():
        row = next(line for line in lines if line.split()[:1] == [facts.name])
        assert f" {facts.effective_bits:.4g} " in row
    assert [line.partition(":")[0] for line in lines if ": name, effective bits" in line] == list(FAMILIES.values())
    text = " ".join(" ".join(lines).split())
    for observer in available_observers():
        assert f"{observer.name} {observer.description}" in text
    for algorithm in available_algorithms():
        assert f" {algorithm.name} {'* ' if algorithm.needs_calibration else ''}{algorithm.description}" in text
    assert "act_order=false, damping=0.01" in text
    assert lines[-3].startswith("scheme   intB")
    assert lines[-2].startswith("recipe   scheme+algorithm")


def test_the_listing_of_schemes_loads_no_torch_nor_does_one_without_algorithms():
    listing = "from quant_lens_engine.scheme_report import list_schemes; list(list_schemes())"
    one = "from quant_lens_engine.cli import main; assert main(['schemes', 'w8a8-percentile+skip:head']) == 0"
    for code in (listing, one):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; import sys; sys.exit('torch' in sys.modules)"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_one_recipe_in_full(capsys):
    assert main(["schemes", "w4a8-g128+smoothquant+gptq:act_order=true+skip:head"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "W4A8-g128 + SmoothQuant + GPTQ (act_order=true) (skips head)",
        "weights INT4, symmetric; fp16 scale = amax / 7, one for 128 weights of a channel",
        "activations INT8, asymmetric, static, one scale a tensor (min-max)",
        "left in float the layer that runs last",
        "effective bits 4.125 a weight",
        "calibration rows are needed: static activation ranges, smoothquant, gptq",
        "activations.observer min-max",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nvpf4", "did you mean nvfp4 or"),
        ("int4+gtpq", "did you mean gptq?"),
        ("int4+smoothquant", "name one that rounds activations"),
        ("int4+gptq:actorder=true", "did you mean act_order?"),
    ],
)
def test_a_scheme_that_is_none_is_exit_code_2_with_what_is_near(capsys, name, words):
    assert main(["schemes", name]) == 2
    said = capsys.readouterr()
    assert words in " ".join(said.err.split())
    assert said.out == ""


def test_calibration_rows_of_another_file(tmp_path, capsys):
    training = digits_split()[0]
    np.savez(tmp_path / "c.npz", x=training.x[:50], y=training.y[:50])
    arguments = ["analyze", "digits-mlp", "--data", "digits", "--scheme", "w8a8", *FAST, "--json", "-"]
    assert main([*arguments, "--calibration", str(tmp_path / "c.npz"), "--calibration-limit", "48"]) == 0
    found = RunResult.model_validate_json(capsys.readouterr().out)
    assert (found.data.calibration_samples, found.data.overlap) == (48, False)
    assert found.data.calibration_sha256 == file_sha256(tmp_path / "c.npz")
    assert found.variant("w8a8").calibrated_by == ["static activation ranges"]
    assert main([*arguments, "--calibration", "nope.npz"]) == 2
    assert "the calibration 'nope.npz' is no file here" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_the_installed_command(tmp_path):
    """``quant-lens analyze``, in a process of its own, from another folder."""
    command = [sys.executable, "-m", "app.cli", "analyze", "digits-mlp", "--data", "digits", "--scheme", "int8", *FAST,
               "--json", "out.json"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["variants"][1]["name"] == "int8"


def test_a_variant_that_cannot_be_made_does_not_take_the_others_along(tmp_path, capsys):
    report = tmp_path / "run.json"
    diverging = "int4+qat:learning_rate=1e30:steps=20"
    arguments = ["analyze", "digits-mlp", "--data", "digits", "--scheme", diverging, "--scheme", "int8", *FAST]
    assert main([*arguments, "--json", str(report)]) == 2
    assert "could not be measured: training diverged" in " ".join(capsys.readouterr().err.split())
    result = RunResult.model_validate_json(report.read_text())
    assert result.variant("int8").evaluation is not None
    assert result.comparison("int8").verdict is not None
    (failure,) = result.failures
    assert (failure.stage, failure.code) == ("evaluate", "training_diverged")
    assert result.variant(failure.variant).evaluation is None
