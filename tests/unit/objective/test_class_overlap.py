"""Mean IoU and F1 against scikit-learn and by hand; outputs that are dicts."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score
from torch import nn

from quant_lens_engine.errors import InputError
from quant_lens_engine.evaluation import evaluate
from quant_lens_engine.figures import METRICS
from quant_lens_engine.objective import Objective
from quant_lens_engine.schema import RunResult, Variant


class Same(nn.Module):
    """Its input, times a parameter that is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.scale


def measured(model, batches, task):
    return evaluate(Objective(model, batches, task=task, micro_batch=3))


def test_mean_iou_of_a_picture_by_hand() -> None:
    """Labels 0 0 and three 1, answers 0 1 and three 1, one void pixel: classes 2 and 3 are left out."""
    answers = torch.tensor([[[0, 1, 3], [1, 1, 1]]])
    scores = nn.functional.one_hot(answers, 4).movedim(-1, 1).float() * 5
    labels = torch.tensor([[[0, 0, -100], [1, 1, 1]]])
    found = measured(Same(), [(scores, labels)], "segmentation")
    assert found.mean_iou == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert found.f1 is None
    assert found.accuracy == pytest.approx(4 / 5)


def test_mean_iou_over_many_batches_is_scikit_learns() -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(10, 5, 4, 6), torch.randint(0, 5, (10, 4, 6))
    labels[torch.rand(10, 4, 6) < 0.2] = -100
    found = measured(Same(), [(scores[:7], labels[:7]), (scores[7:], labels[7:])], "segmentation")
    counted = labels != -100
    expected = jaccard_score(labels[counted], scores.argmax(1)[counted], average="macro")
    assert found.mean_iou == pytest.approx(expected, rel=1e-12)


def test_f1_of_tokens_is_scikit_learns() -> None:
    torch.manual_seed(1)
    scores, labels = torch.randn(9, 7, 4), torch.randint(0, 3, (9, 7))
    labels[:, 5:] = -100
    found = measured(Same(), [(scores, labels)], "token-classification")
    counted = labels != -100
    expected = f1_score(labels[counted], scores.argmax(-1)[counted], average="macro")
    assert found.f1 == pytest.approx(expected, rel=1e-12)
    assert found.mean_iou is None


def test_f1_of_labels_is_scikit_learns() -> None:
    torch.manual_seed(2)
    scores, labels = torch.randn(40, 6), (torch.rand(40, 6) < 0.3).float()
    scores[:, 5], labels[:, 5] = -1.0, 0.0  # a class that neither has, which scikit-learn would count as 0
    found = measured(Same(), [(scores, labels)], "multi-label")
    expected = f1_score(labels[:, :5].numpy(), np.asarray(scores[:, :5] > 0), average="macro")
    assert found.f1 == pytest.approx(expected, rel=1e-12)


def test_other_tasks_have_neither() -> None:
    found = measured(Same(), [(torch.randn(8, 3), torch.randint(3, (8,)))], "classification")
    assert (found.mean_iou, found.f1) == (None, None)


def test_tables_show_them_in_per_cent() -> None:
    variant = Variant(name="int8", evaluation={"mean_iou": 0.5, "f1": 0.25})
    values = [METRICS[key].read(RunResult(), variant).value for key in ("mean_iou", "f1")]
    assert values == [0.5, 0.25]
    assert METRICS["mean_iou"].head == "mIoU (%)"


class Answers(nn.Module):
    def __init__(self, *keys) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.keys = keys

    def forward(self, x):
        return {key: self.fc(x) if key in ("logits", "out", "alone") else x for key in self.keys}


@pytest.mark.parametrize("keys", [("aux", "logits"), ("out", "aux"), ("alone",)])
def test_the_scores_of_a_dict_are_measured(keys) -> None:
    torch.manual_seed(3)
    model, x = Answers(*keys), torch.randn(6, 4)
    y = torch.randint(3, (6,))
    found = measured(model, [{"x": x, "labels": y}], "classification")
    expected = nn.functional.cross_entropy(model.fc(x), y)
    assert found.loss == pytest.approx(float(expected), rel=1e-6)


def test_a_dict_without_scores_is_refused_with_its_keys() -> None:
    with pytest.raises(InputError) as refused:
        measured(Answers("features", "aux"), [(torch.ones(2, 4), torch.tensor([0, 1]))], "classification")
    assert refused.value.code == "bad_output"
    assert "'features', 'aux'" in refused.value.message
    assert refused.value.details["keys"] == ["features", "aux"]


def test_a_loss_of_the_callers_takes_a_dict_whole() -> None:
    def loss(answer, y):
        return answer["features"].square().mean() + 0 * answer["aux"].sum()

    x = torch.randn(6, 4)
    objective = Objective(Answers("features", "aux"), [(x, torch.zeros(6))], loss, task="regression")
    assert objective.loss() == pytest.approx(float(x.square().mean()), rel=1e-6)
    assert evaluate(objective).loss == pytest.approx(float(x.square().mean()), rel=1e-6)
