"""Evaluation: sampling errors, paired differences, and how far a variant's answers are from the float model's."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant_lens_engine.evaluation import evaluate, float_outputs
from quant_lens_engine.objective import Objective, mean_with_error
from quant_lens_engine.quantization import quantize


def rows(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=source)
    return x, (x @ torch.randn(6, 3, generator=source)).argmax(1)


def objective(count: int = 200, criterion: Any = None, **options: Any) -> tuple[Objective, nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x, y = rows(count)
    batches = [(x[start : start + 64], y[start : start + 64]) for start in range(0, count, 64)]
    return Objective(model, batches, criterion, **options), model, x, y


def test_every_number_against_torch() -> None:
    function, model, x, y = objective()
    variant = quantize(model, "int3")
    reference = float_outputs(function)
    measured = evaluate(function.at(variant.point), reference=reference)
    logits = torch.func.functional_call(model, variant.point, (x,)).detach().double()
    float_logits = model(x).detach().double()
    losses, float_losses = (F.cross_entropy(scores, y, reduction="none") for scores in (logits, float_logits))
    right, float_right = ((scores.argmax(1) == y).double() for scores in (logits, float_logits))
    root = len(y) ** 0.5
    assert measured.loss == pytest.approx(float(losses.mean()), rel=1e-6)
    assert measured.loss_standard_error == pytest.approx(float(losses.std() / root), rel=1e-6)
    assert measured.accuracy == pytest.approx(float(right.mean()))
    assert measured.accuracy_standard_error == pytest.approx(float(right.std() / root))
    assert measured.delta_loss == pytest.approx(float((losses - float_losses).mean()), rel=1e-5)
    assert measured.delta_loss_standard_error == pytest.approx(float((losses - float_losses).std() / root), rel=1e-5)
    assert measured.delta_accuracy == pytest.approx(float((right - float_right).mean()))
    assert measured.delta_accuracy_standard_error == pytest.approx(float((right - float_right).std() / root))
    kl = F.kl_div(logits.log_softmax(1), float_logits.log_softmax(1), log_target=True, reduction="batchmean")
    assert measured.kl_to_float == pytest.approx(float(kl), rel=1e-5)
    agreement = (logits.argmax(1) == float_logits.argmax(1)).double().mean()
    assert measured.top1_agreement == pytest.approx(float(agreement))
    assert (measured.samples, measured.forward) == (200, "fake-quant")


def test_paired_errors_are_smaller() -> None:
    function, model, _, _ = objective()
    measured = evaluate(function.at(quantize(model, "int8").point), reference=float_outputs(function))
    assert measured.delta_loss_standard_error < 0.05 * measured.loss_standard_error


def test_standard_errors_cover() -> None:
    """Over many samples the loss of a huge one lies within two standard errors about 95% of the time."""
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 3.0]))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    mapping = rows(1)[0]  # one fixed labelling for all samples
    teacher = torch.randn(6, 3, generator=torch.Generator().manual_seed(9))

    def sample(count: int, seed: int) -> Objective:
        x = torch.randn(count, mapping.shape[1], generator=torch.Generator().manual_seed(seed))
        return Objective(model, [(x, (x @ teacher).argmax(1))], criterion)

    truth = sample(200_000, 1).loss()
    within = 0
    for seed in range(2, 202):
        estimate = sample(150, seed).measure(rowwise=True).loss
        within += abs(estimate.value - truth) <= 2 * estimate.standard_error
    assert 180 <= within <= 199


def test_a_ratio_of_sums_is_exact_for_equal_weights() -> None:
    values = torch.tensor([1.0, 4.0, 7.0, 2.0])
    estimate = mean_with_error(values * 3, torch.full((4,), 3.0))
    assert estimate == pytest.approx((3.5, float(values.std() / 2)))


def test_the_float_model_has_no_difference_from_itself() -> None:
    function, _, _, _ = objective()
    alone = evaluate(function)
    assert (alone.forward, alone.delta_loss, alone.kl_to_float) == ("float", None, None)
    itself = evaluate(function, reference=float_outputs(function))
    assert (itself.delta_loss, itself.delta_accuracy, itself.top1_agreement) == (0, 0, 1)
    assert itself.kl_to_float == pytest.approx(0, abs=1e-15)


def test_scores_too_large_to_keep_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    function, model, _, _ = objective()
    moved = function.at(quantize(model, "int3").point)
    kept = evaluate(moved, reference=float_outputs(function))
    monkeypatch.setattr("quant_lens_engine.evaluation.KEPT_SCORES", 100)
    reference = float_outputs(function)
    assert reference.logits is None
    again = evaluate(moved, reference=reference)
    assert (again.kl_to_float, again.top1_agreement) == (kept.kl_to_float, kept.top1_agreement)


def test_a_scalar_callable_is_taken_apart_into_rows() -> None:
    by_module, _, _, _ = objective()
    by_callable, _, _, _ = objective(criterion=lambda output, target: F.cross_entropy(output, target))
    one, two = evaluate(by_module), evaluate(by_callable)
    assert two.loss == pytest.approx(one.loss, rel=1e-6)
    assert two.loss_standard_error == pytest.approx(one.loss_standard_error, rel=1e-4)


def test_a_loss_between_rows_has_no_sampling_error() -> None:
    def contrast(output: Tensor, _: Tensor) -> Tensor:
        return torch.cdist(output, output).mean()

    function, _, _, _ = objective(criterion=contrast)
    measured = evaluate(function)
    assert measured.loss > 0
    assert measured.loss_standard_error is None


def test_regression_has_no_classes() -> None:
    model, x = nn.Linear(6, 2), rows(30)[0]
    function = Objective(model, [(x, torch.zeros(30, 2))], task="regression")
    measured = evaluate(function.at(quantize(model, "int4").point), reference=float_outputs(function))
    nothing = (measured.accuracy, measured.delta_accuracy, measured.kl_to_float, measured.top1_agreement)
    assert nothing == (None, None, None, None)
    assert measured.delta_loss is not None


def test_binary_classification_by_one_logit() -> None:
    x, _ = rows(50)
    y = (x[:, :1] > 0).float()
    model = nn.Linear(6, 1)
    measured = evaluate(Objective(model, [(x, y)], nn.BCEWithLogitsLoss()))
    assert measured.accuracy == pytest.approx(float(((model(x) > 0) == (y > 0.5)).float().mean()))


def test_a_model_with_kernels_of_its_own() -> None:
    function, model, x, y = objective()
    own = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}).train()
    measured = evaluate(function, reference=float_outputs(function), own_model=own)
    assert own.training, "its mode comes back"
    assert measured.forward == "own"
    # Dynamic activation scales are those of each batch, so one pass over all rows differs a little.
    assert measured.loss == pytest.approx(float(F.cross_entropy(own.eval()(x), y)), rel=1e-3)
    assert 0 < measured.kl_to_float < 0.1


def test_self_distillation_needs_no_labels() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(6, 4), rows(40)[0]
    function = Objective(model, [x[:30], x[30:]], task="self-distillation")
    measured = evaluate(function.at(quantize(model, "int2").point), reference=float_outputs(function))
    assert measured.loss == pytest.approx(measured.kl_to_float, rel=1e-4)
    assert measured.accuracy is None
    assert evaluate(function).loss == pytest.approx(0, abs=1e-6)


def test_progress_is_told_after_each_batch() -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard: list[tuple[str, int, int]] = []

        def report(self, stage: str, done: int, total: int, note: str = "") -> None:
            self.heard.append((stage, done, total))

        def check_cancelled(self) -> None:
            pass

    listener = Listener()
    function, _, _, _ = objective()
    evaluate(function, progress=listener, stage="evaluate/FP32")
    assert listener.heard == [("evaluate/FP32", done, 4) for done in (1, 2, 3, 4)]
