"""Runs of multi-label, segmentation and tagging, from files to verdict and report."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quant_lens_engine.analysis import analyze, check_baseline
from quant_lens_engine.errors import DataError
from quant_lens_engine.intake import ARCHITECTURES, architecture
from quant_lens_engine.report import written_report
from quant_lens_engine.schema import parse_run_spec
from quant_lens_engine.subject import file_sha256

QUICK = {"preset": "quick", "line": {"steps": 3}, "plane": {"steps": 0}}


@pytest.fixture(autouse=True)
def families():
    """Two networks that no built-in family is."""

    @architecture("test-pixels")
    def pixels(tensors):
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))

    @architecture("test-tags")
    def tags(tensors):
        return nn.Sequential(nn.Embedding(12, 5), nn.Linear(5, 3))

    yield
    for name in ("test-pixels", "test-tags"):
        ARCHITECTURES.discard(name)


def run(tmp_path, model, x, y, task, name, **more):
    torch.save(model.state_dict(), tmp_path / "m.pt")
    np.savez(tmp_path / "d.npz", x=x, y=y)
    files = {file_sha256(tmp_path / file): tmp_path / file for file in ("m.pt", "d.npz")}
    model_sha, data_sha = files
    spec = {
        "model": {"file": model_sha, "architecture": name},
        "data": {"file": data_sha} | more,
        "task": task,
        "schemes": ["int8", "int2", "w8a8"],
        "analyses": QUICK,
    }
    return parse_run_spec(spec), files


def trained(model, x, y, loss, steps=120):
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
    return model.eval()


def of_pixels():
    torch.manual_seed(0)
    x = torch.randn(40, 3, 6, 6)
    y = x.abs().argmax(1)
    y[x.sum(1) > 1.5] = 3
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))
    trained(model, x, y, F.cross_entropy)
    y[torch.rand(y.shape) < 0.2] = 255
    return model, x, y.numpy().astype(np.uint8)


def test_a_segmentation_is_measured_to_the_verdict(tmp_path):
    model, x, y = of_pixels()
    channels_last = np.moveaxis(x.numpy(), 1, -1)
    spec, files = run(tmp_path, model, channels_last, y, "segmentation", "test-pixels", transform={"layout": "NHWC"})
    result = analyze(spec, files=files)
    assert not result.failures
    target = torch.from_numpy(y.astype(np.int64))
    target[target == 255] = -100
    with torch.no_grad():
        scores = model(x)
    found = result.variant("FP32").evaluation
    assert found.loss == pytest.approx(float(F.cross_entropy(scores, target)), rel=1e-5)
    kept = target != -100
    assert found.accuracy == pytest.approx(float((scores.argmax(1)[kept] == target[kept]).double().mean()))
    assert (found.samples, found.answers) == (int(kept.sum()), "pixels")
    said = f"{int((~kept).sum())} of {target.numel()} pixels have no class"
    assert any(said in note for note in notes_of(spec, files))
    reasons = result.comparison("int8").verdict.reasons
    assert "pixels" in reasons[0]
    assert "most frequent answer" in reasons[1]
    assert result.comparison("int8").verdict.level == "safe"
    assert result.comparison("int2").verdict.level in ("degraded", "collapsed")
    assert "segmentation" in result.task
    assert "int2" in written_report(result)
    assert result.variant("int8").curvature.lambda_max.value > 0


def notes_of(spec, files):
    from quant_lens_engine.analysis import Workbench

    return Workbench.open(spec, files=files).inspect().notes


def test_a_tagging_is_measured_to_the_verdict(tmp_path):
    torch.manual_seed(0)
    x = torch.randint(0, 12, (60, 7))
    y = x % 3
    model = nn.Sequential(nn.Embedding(12, 5), nn.Linear(5, 3))
    trained(model, x, y, lambda out, y: F.cross_entropy(out.movedim(-1, 1), y))
    y[:, 5:] = -100
    spec, files = run(tmp_path, model, x.numpy(), y.numpy(), "token-classification", "test-tags")
    result = analyze(spec, files=files)
    found = result.variant("FP32").evaluation
    with torch.no_grad():
        expected = F.cross_entropy(model(x).movedim(-1, 1), y, ignore_index=-100)
    assert found.loss == pytest.approx(float(expected), rel=1e-5)
    assert (found.samples, found.answers, found.accuracy) == (300, "tokens", 1.0)
    assert result.comparison("int8").verdict.level == "safe"
    assert "tokens" in result.comparison("int8").verdict.reasons[0]


def of_labels(rare=0.05):
    torch.manual_seed(0)
    x = torch.rand(300, 64)
    planes = torch.randn(64, 10)
    scores = (x - 0.5) @ planes
    y = (scores > scores.quantile(1 - rare, 0)).float()
    model = ARCHITECTURES["digits-mlp"].build({"hidden1.weight": (48, 64)})
    return trained(model, x, y, F.binary_cross_entropy_with_logits, steps=400), x, y


def test_multi_label_rows_are_measured_to_the_verdict(tmp_path):
    model, x, y = of_labels()
    spec, files = run(tmp_path, model, x.numpy(), y.numpy().astype(np.uint8), "multi-label", "digits-mlp")
    result = analyze(spec, files=files)
    found = result.variant("FP32").evaluation
    with torch.no_grad():
        scores = model(x)
    assert found.loss == pytest.approx(float(F.binary_cross_entropy_with_logits(scores, y)), rel=1e-5)
    assert found.accuracy == pytest.approx(float(((scores > 0) == (y > 0.5)).double().mean()), rel=1e-6)
    assert (found.samples, found.answers) == (3000, "labels")
    assert found.majority == pytest.approx(0.95, abs=1e-6)
    assert result.comparison("int8").verdict.level == "safe"
    # Always saying no has 95 % of the labels: a broken model loses few points, and all of what it had.
    assert result.comparison("int2").verdict.level == "collapsed"
    assert "labels" in result.comparison("int2").verdict.reasons[0]
    baseline = check_baseline(spec, files)
    assert (baseline.agrees, baseline.samples) == (True, 256)
    wrong = run(tmp_path, model, x.numpy(), np.roll(y.numpy(), 1, axis=0), "multi-label", "digits-mlp")
    assert not check_baseline(*wrong).agrees


BAD = {
    "a class number a row": ("multi-label", lambda y: y[:, 0], "bad_labels", "needs 0 or 1 for each class"),
    "a two": ("multi-label", lambda y: y * 2, "bad_labels", "neither 0 nor 1"),
    "too few columns": ("multi-label", lambda y: y[:, :7], "bad_labels", "7 labels, the model gives 10 logits"),
    "no y": ("multi-label", lambda y: None, "missing_array", "no labels y"),
}


@pytest.mark.parametrize("what", BAD)
def test_labels_that_do_not_fit_are_refused(tmp_path, what):
    task, change, code, words = BAD[what]
    x = np.zeros((20, 64), np.float32)
    y = np.eye(10, dtype=np.float32)[np.arange(20) % 10]
    model = ARCHITECTURES["digits-mlp"].build({})
    changed = change(y)
    spec, files = run(tmp_path, model, x, y, task, "digits-mlp")
    if changed is None:
        np.savez(tmp_path / "d.npz", x=x)
    else:
        np.savez(tmp_path / "d.npz", x=x, y=changed)
    with pytest.raises(DataError, match=words) as caught:
        analyze(spec, files=files)
    assert caught.value.code == code


PIXELS = {
    "a class a row": (lambda y: y[:, 0, 0], "bad_labels", "a class number for each pixel"),
    "another size": (lambda y: y[:, :3], "bad_output", "position by position"),
    "a class too many": (lambda y: np.where(y == 3, 4, y), "label_out_of_range", "label 4 at row"),
    "a fraction": (lambda y: y + 0.5, "non_integer_labels", "not a class number"),
}


@pytest.mark.parametrize("what", PIXELS)
def test_masks_that_do_not_fit_are_refused(tmp_path, what):
    change, code, words = PIXELS[what]
    torch.manual_seed(0)
    x = torch.randn(5, 3, 6, 6).numpy()
    y = change(np.arange(5 * 36).reshape(5, 6, 6) % 4)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))
    spec, files = run(tmp_path, model, x, y, "segmentation", "test-pixels")
    with pytest.raises(DataError) as caught:
        analyze(spec, files=files)
    assert caught.value.code == code
    assert words in caught.value.message + caught.value.hint
