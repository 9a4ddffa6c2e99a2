"""Tasks whose rows have several answers: loss, accuracy, KL, agreement and curvature against torch's closed forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quant_lens_engine.curvature import measure_curvature
from quant_lens_engine.curvature.operators.hessian import HessianOperator
from quant_lens_engine.evaluation import evaluate, float_outputs
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.sample import Sample
from quant_lens_engine.objective.task_inference import infer_task
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema.analyses import CurvatureOptions


def multi_label(rows=23):
    torch.manual_seed(0)
    x = torch.randn(rows, 6, dtype=torch.float64)
    y = (torch.rand(rows, 4) < torch.tensor([0.1, 0.3, 0.5, 0.9])).double()
    return nn.Linear(6, 4).double(), x, y


def segmentation(rows=7):
    torch.manual_seed(1)
    x = torch.randn(rows, 2, 3, 5, dtype=torch.float64)
    y = torch.randint(0, 3, (rows, 3, 5))
    y[torch.rand(rows, 3, 5) < 0.4] = -100
    y[2] = -100  # a row of which nothing counts
    return nn.Conv2d(2, 3, 1).double(), x, y


def tagging(rows=9):
    torch.manual_seed(2)
    x = torch.randint(0, 11, (rows, 6))
    y = torch.randint(0, 4, (rows, 6))
    y[torch.arange(6)[None] >= torch.arange(rows)[:, None] % 6 + 1] = -100  # padding
    return nn.Sequential(nn.Embedding(11, 3), nn.Linear(3, 4)).double(), x, y


def batches(x, y, size=4):
    return list(zip(x.split(size), y.split(size), strict=True))


def loss_of(task, outputs, y):
    if task == "multi-label":
        return F.binary_cross_entropy_with_logits(outputs, y)
    return F.cross_entropy(outputs if task == "segmentation" else outputs.movedim(-1, 1), y, ignore_index=-100)


CASES = {"multi-label": multi_label, "segmentation": segmentation, "token-classification": tagging}


def answers(task, outputs, y):
    """Right answers, log-probabilities and chosen classes of what counts, one a position."""
    if task == "multi-label":
        two = torch.stack([torch.zeros_like(outputs), outputs], -1)
        return (outputs > 0) == (y > 0.5), two.log_softmax(-1).flatten(0, 1), (outputs > 0).flatten()
    scores = outputs.movedim(1, -1) if task == "segmentation" else outputs
    kept = y != -100
    return scores.argmax(-1)[kept] == y[kept], scores.log_softmax(-1)[kept], scores.argmax(-1)[kept]


@pytest.mark.parametrize("task", CASES)
@pytest.mark.parametrize("micro_batch", [None, 1, 5])
def test_every_number_of_an_evaluation(task, micro_batch):
    model, x, y = CASES[task]()
    function = Objective(model, batches(x, y), task=task, micro_batch=micro_batch)
    variant = quantize(function.model, "int3")
    found = evaluate(function.at(variant.point), reference=float_outputs(function))
    outputs = torch.func.functional_call(model, {k: v.double() for k, v in variant.point.items()}, (x,)).detach()
    float_outputs_ = model(x).detach()
    right, log, chosen = answers(task, outputs, y)
    float_right, float_log, float_chosen = answers(task, float_outputs_, y)
    assert found.loss == pytest.approx(float(loss_of(task, outputs, y)), rel=1e-12)
    assert found.delta_loss == pytest.approx(
        float(loss_of(task, outputs, y) - loss_of(task, float_outputs_, y)), rel=1e-9, abs=1e-12
    )
    assert found.accuracy == pytest.approx(float(right.double().mean()), rel=1e-12)
    assert found.delta_accuracy == pytest.approx(float(right.double().mean() - float_right.double().mean()), abs=1e-12)
    assert found.kl_to_float == pytest.approx(float((float_log.exp() * (float_log - log)).sum(-1).mean()), rel=1e-9)
    assert found.top1_agreement == pytest.approx(float((chosen == float_chosen).double().mean()), rel=1e-12)
    assert found.samples == right.numel()
    assert found.answers == {"multi-label": "labels", "segmentation": "pixels"}.get(task, "tokens")
    assert found.majority is None


@pytest.mark.parametrize("task", CASES)
def test_sampling_errors_are_those_of_rows(task):
    model, x, y = CASES[task]()
    found = evaluate(Objective(model, batches(x, y), task=task))
    outputs, n = model(x).detach(), len(x)
    if task == "multi-label":
        right, counted = ((outputs > 0) == (y > 0.5)).double().sum(1), torch.full((n,), 4.0, dtype=torch.float64)
    else:
        scores, kept = (outputs.movedim(1, -1) if task == "segmentation" else outputs), y != -100
        right = ((scores.argmax(-1) == y) & kept).double().flatten(1).sum(1)
        counted = kept.double().flatten(1).sum(1)
    residuals = right - right.sum() / counted.sum() * counted
    error = (n / (n - 1) * (residuals**2).sum()).sqrt() / counted.sum()
    assert found.accuracy_standard_error == pytest.approx(float(error), rel=1e-12)


@pytest.mark.parametrize("task", CASES)
def test_the_most_frequent_answer(task):
    model, x, y = CASES[task]()
    found = evaluate(Objective(model, batches(x, y), task=task))
    if task == "multi-label":
        expected = torch.maximum(y.mean(0), 1 - y.mean(0)).mean()
    else:
        expected = y[y != -100].bincount().max() / (y != -100).sum()
    assert found.majority == pytest.approx(float(expected), rel=1e-6)


def test_rows_with_one_answer_have_no_such_measure():
    model, x, _ = multi_label()
    found = evaluate(Objective(model, batches(x, torch.arange(23) % 4)))
    assert (found.answers, found.samples, found.majority) == ("rows", 23, None)


@pytest.mark.parametrize("task", CASES)
def test_curvature_is_that_of_torchs_own_loss(task):
    model, x, y = CASES[task]()
    names = list(dict(model.named_parameters()))
    sizes = [parameter.shape for parameter in model.parameters()]

    def loss(flat):
        parts = flat.split([size.numel() for size in sizes])
        point = {name: part.view(size) for name, part, size in zip(names, parts, sizes, strict=True)}
        return loss_of(task, torch.func.functional_call(model, point, (x,)), y)

    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    exact = torch.func.hessian(loss)(flat)
    function = Objective(model, batches(x, y), task=task, micro_batch=3)
    product = HessianOperator(function)
    found = torch.stack([product.matvec(column) for column in torch.eye(len(flat), dtype=torch.float64)])
    assert torch.allclose(found, exact, rtol=1e-9, atol=1e-12)
    measured = measure_curvature(function, CurvatureOptions(trace_probes=2))
    assert measured.lambda_max.value == pytest.approx(float(torch.linalg.eigvalsh(exact)[-1]), rel=1e-4)


def test_a_notebook_with_this_loss_and_several_columns_means_multi_label():
    _, x, y = multi_label()
    assert infer_task(Sample.read(batches(x, y)), nn.BCEWithLogitsLoss()) == "multi-label"
    assert infer_task(Sample.read(batches(x, y[:, :1])), nn.BCEWithLogitsLoss()) == "classification"
    assert infer_task(Sample.read(batches(x, y)), None) == "regression"
