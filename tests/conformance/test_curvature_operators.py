"""Every operator against its definition, written out with torch.func on networks whose matrices can be formed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

from quant_lens_engine.curvature import top_eigenvalues, trace
from quant_lens_engine.curvature.dense import as_dense
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.operators.fisher import FisherOperator
from quant_lens_engine.errors import DataError, InputError
from quant_lens_engine.objective import Objective


@dataclass
class Case:
    """A network, its data, and its loss as Σ weight · −log p of observations, over a denominator."""

    model: nn.Module
    batches: list[tuple[Tensor, Tensor]]
    criterion: nn.Module
    task: str

    @property
    def objective(self) -> Objective:
        return Objective(self.model, self.batches, self.criterion, task=self.task)

    def outputs(self, flat: Tensor) -> Tensor:
        """The network's answers on all rows, from flat parameters."""
        return functional_call(self.model, self.named(flat), (torch.cat([x for x, _ in self.batches]),))

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        own = dict(self.model.named_parameters())
        pieces = flat.split([tensor.numel() for tensor in own.values()])
        return {name: piece.view_as(own[name]) for name, piece in zip(own, pieces, strict=True)}

    @property
    def flat(self) -> Tensor:
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.model.parameters()])

    @property
    def targets(self) -> Tensor:
        return torch.cat([y for _, y in self.batches])


def seeded(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TokenModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mix(self.embed(tokens).cumsum(1))))


def make(kind: str) -> Case:
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x = seeded(11, 4, seed=1)
    labels = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1, 0, 0, 1])
    parts = [slice(0, 4), slice(4, 8), slice(8, 11)]
    batches = [(x[part], labels[part]) for part in parts]
    if kind == "cross-entropy":
        return Case(mlp, batches, nn.CrossEntropyLoss(), "classification")
    if kind == "weighted":
        weight = torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)
        return Case(mlp, batches, nn.CrossEntropyLoss(weight, ignore_index=2), "classification")
    if kind == "sum":
        return Case(mlp, batches, nn.CrossEntropyLoss(reduction="sum"), "classification")
    if kind == "squared":
        targets = [(x[part], seeded(11, 3, seed=2)[part]) for part in parts]
        return Case(mlp, targets, nn.MSELoss(), "regression")
    if kind == "bernoulli":
        targets = [(x[part], (seeded(11, 3, seed=2)[part] > 0).double()) for part in parts]
        return Case(mlp, targets, nn.BCEWithLogitsLoss(), "regression")
    tokens = torch.randint(5, (6, 4), generator=torch.Generator().manual_seed(3))
    padded = tokens.clone()
    padded[1, 2:] = -100
    return Case(
        TokenModel().double(), [(tokens[:4], padded[:4]), (tokens[4:], padded[4:])], nn.CrossEntropyLoss(), "masked-lm"
    )


KINDS = ["cross-entropy", "weighted", "sum", "squared", "bernoulli", "tokens"]


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest) -> Case:
    return make(request.param)


def observed(case: Case, output: Tensor) -> tuple[Tensor, Tensor, float]:
    """−log p of each observation, its weight, and the loss' denominator; from the formulas, not from our criteria."""
    target = case.targets
    if case.task == "regression":
        if isinstance(case.criterion, nn.MSELoss):
            losses = (output - target).square().sum(1)
        else:
            losses = (F.softplus(output) - target * output).sum(1)
        return losses, torch.ones(len(losses), dtype=torch.float64), float(target.numel())
    logits = output.reshape(-1, output.shape[-1])
    labels = target.reshape(-1)
    ignored = labels == case.criterion.ignore_index
    losses = -logits.log_softmax(1)[torch.arange(len(labels)), labels.where(~ignored, 0)]
    weight = case.criterion.weight
    weights = torch.ones_like(losses) if weight is None else weight[labels.where(~ignored, 0)]
    weights = (weights * ~ignored).detach()
    return losses, weights, 1.0 if case.criterion.reduction == "sum" else float(weights.sum())


def by_definition(case: Case, operator: str) -> Tensor:
    def total(output: Tensor) -> Tensor:
        losses, weights, denominator = observed(case, output)
        return (losses * weights).sum() / denominator

    output = case.outputs(case.flat).detach()
    if operator == "hessian":
        return hessian(lambda flat: total(case.outputs(flat)))(case.flat)
    if operator == "fisher-exact":
        return expected_over_targets(case)
    if operator == "gauss-newton":
        jacobian = jacrev(case.outputs)(case.flat).reshape(output.numel(), -1)
        bend = hessian(lambda flat: total(flat.view_as(output)))(output.reshape(-1))
        return jacobian.T @ bend @ jacobian
    scores = jacrev(lambda flat: observed(case, case.outputs(flat))[0])(case.flat)
    _, weights, denominator = observed(case, output)
    return scores.T @ (weights[:, None] * scores) / denominator


def expected_over_targets(case: Case) -> Tensor:
    """Σ over targets of p(y) g gᵀ: each class of a softmax, both answers of a Bernoulli, two points of a Gaussian that
    have its variance."""
    output = case.outputs(case.flat).detach()
    jacobian = jacrev(case.outputs)(case.flat).reshape(output.numel(), -1)
    if case.task == "regression":
        if isinstance(case.criterion, nn.MSELoss):
            moments = torch.full_like(output, (2 * 0.5**0.5) ** 2)  # of 2(o − y) at y = o ± √½
        else:
            p = output.sigmoid()
            moments = p * (p - 1) ** 2 + (1 - p) * p**2
        return jacobian.T @ (moments.reshape(-1, 1) * jacobian) / float(output.numel())
    _, weights, denominator = observed(case, output)
    classes = output.shape[-1]
    logits = output.reshape(-1, classes)
    total = torch.zeros(jacobian.shape[1], jacobian.shape[1], dtype=torch.float64)
    for row, (weight, p) in enumerate(zip(weights, logits.softmax(1), strict=True)):
        block = jacobian[row * classes : (row + 1) * classes]
        for label in range(classes):
            score = (p - F.one_hot(torch.tensor(label), classes)) @ block
            total += weight * p[label] * torch.outer(score, score)
    return total / denominator


def test_the_exact_fisher_matrix_where_it_is_not_gauss_newton() -> None:
    """Smoothed labels, and log-probabilities, whose Gauss-Newton matrix is zero: against the mean of many draws."""
    case = make("cross-entropy")
    smoothed = Case(case.model, case.batches, nn.CrossEntropyLoss(label_smoothing=0.3), case.task)
    ending = Case(nn.Sequential(case.model, nn.LogSoftmax(1)), case.batches, nn.NLLLoss(), case.task)
    for other in (smoothed, ending):
        objective = other.objective
        direction = seeded(objective.dimension, seed=7)
        exact = OPERATORS["fisher-exact"](objective).matvec(direction)
        drawn = torch.stack([FisherOperator(objective, seed=seed).matvec(direction) for seed in range(200)])
        assert bool(((drawn.mean(0) - exact).abs() <= 5 * drawn.std(0) / 200**0.5 + 1e-12).all())
        newton = OPERATORS["gauss-newton"](objective).matvec(direction)
        assert float((exact - newton).norm()) > 0.05 * float(exact.norm())


@pytest.mark.parametrize("operator", sorted(set(OPERATORS) - {"fisher"}))
def test_an_operator_is_its_definition(case: Case, operator: str) -> None:
    torch.testing.assert_close(
        as_dense(OPERATORS[operator](case.objective)), by_definition(case, operator), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_what_every_operator_owes(case: Case, operator: str) -> None:
    objective = case.objective
    found = OPERATORS[operator](objective, "reuse")
    matrix = as_dense(found)
    assert found.products == objective.dimension == found.dimension
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-9, atol=1e-12)
    if operator != "hessian":
        assert float(torch.linalg.eigvalsh(matrix)[0]) > -1e-12
    for plan in found.plans:
        other = as_dense(OPERATORS[operator](objective, plan))
        assert torch.equal(other, matrix) or plan == "forward-over-reverse", "plans give the same digits"
        torch.testing.assert_close(other, matrix, rtol=1e-9, atol=1e-12)
        together = OPERATORS[operator](objective, plan)
        identity = torch.eye(objective.dimension, dtype=torch.float64)
        assert torch.equal(together.matmat(identity).T, other) or plan == "forward-over-reverse"
        torch.testing.assert_close(together.matmat(identity[:11]).T, matrix[:, :11], rtol=1e-9, atol=1e-12)
        assert together.products == objective.dimension + 11
    for micro_batch in (1, 5, 100):
        regrouped = Objective(case.model, case.batches, case.criterion, task=case.task, micro_batch=micro_batch)
        torch.testing.assert_close(as_dense(OPERATORS[operator](regrouped)), matrix, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_a_row_that_counts_twice_is_there_twice(case: Case, operator: str) -> None:
    """Whole weights are copies of rows; and the operator is linear in them, drawn targets included."""
    count = torch.tensor([2.0, 1, 0, 3, 1, 1, 2, 1, 0, 1, 4])[: len(case.targets)]
    rows = torch.cat([x for x, _ in case.batches])
    given: dict[str, Any] = {"criterion": case.criterion, "task": case.task}

    def weighted(weights: Tensor, micro_batch: int) -> Tensor:
        objective = Objective(case.model, case.batches, **given, sample_weights=weights, micro_batch=micro_batch)
        return as_dense(OPERATORS[operator](objective))

    found = weighted(count, 3)
    torch.testing.assert_close(weighted(count, 100), found, rtol=1e-9, atol=1e-12)
    if operator != "fisher":
        copies = count.long()
        repeated = [(rows.repeat_interleave(copies, 0), case.targets.repeat_interleave(copies, 0))]
        expected = as_dense(OPERATORS[operator](Objective(case.model, repeated, **given)))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    halves = [count * (torch.arange(len(count)) % 2 == side) for side in (0, 1)]
    parts = [OPERATORS[operator](Objective(case.model, case.batches, **given, sample_weights=half)) for half in halves]
    total = torch.stack([as_dense(part) * part.weight for part in parts]).sum(0)
    weight = parts[0].weight + parts[1].weight if case.criterion.reduction != "sum" else parts[0].weight
    torch.testing.assert_close(total / weight, found, rtol=1e-9, atol=1e-12)


def test_weights_that_are_no_weights() -> None:
    case = make("squared")
    for wrong in ([1.0] * 10, [-1.0] * 11, [float("nan")] * 11, [0.0] * 11):
        with pytest.raises(DataError) as refused:
            Objective(case.model, case.batches, sample_weights=wrong, task=case.task)
        assert refused.value.code == "wrong_weights"
    between_rows = Objective(
        case.model, case.batches, lambda output, target: torch.pdist(output).mean(), task=case.task,
        sample_weights=[1.0] * 11,
    )  # fmt: skip
    with pytest.raises(InputError) as fine:
        between_rows.loss()
    assert fine.value.code == "no_row_losses"


def test_a_weighted_loss_is_the_loss_of_the_copies(case: Case) -> None:
    count = torch.tensor([2.0, 1, 0, 3, 1, 1, 2, 1, 0, 1, 4])[: len(case.targets)]
    copies = count.long()
    rows = torch.cat([x for x, _ in case.batches])
    repeated = [(rows.repeat_interleave(copies, 0), case.targets.repeat_interleave(copies, 0))]
    weighted = Objective(case.model, case.batches, case.criterion, task=case.task, sample_weights=count)
    assert weighted.loss() == pytest.approx(
        Objective(case.model, repeated, case.criterion, task=case.task).loss(), rel=1e-12
    )


def test_the_fisher_matrix_is_the_gauss_newton_matrix_on_average(case: Case) -> None:
    """Its products within 5 standard errors of their mean over draws, entry by entry; one draw is far from it."""
    objective, draws = case.objective, 100
    direction = seeded(objective.dimension, seed=7)
    exact = by_definition(case, "gauss-newton") @ direction
    drawn = torch.stack([FisherOperator(objective, seed=seed).matvec(direction) for seed in range(draws)])
    error = drawn.std(0) / draws**0.5
    assert bool(((drawn.mean(0) - exact).abs() <= 5 * error + 1e-12).all())
    assert float((drawn[0] - exact).norm()) > 2 * float((drawn.mean(0) - exact).norm())


def test_drawn_labels_follow_the_seed_and_the_row(case: Case) -> None:
    objective = case.objective
    first, again, other = (as_dense(FisherOperator(objective, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_an_operator_can_be_chosen_by_name() -> None:
    case = make("cross-entropy")
    given: dict[str, Any] = {"task": case.task, "operator": "gauss-newton"}
    exact = by_definition(case, "gauss-newton")
    found = top_eigenvalues(case.model, case.batches, case.criterion, k=3, tol=1e-6, **given)
    assert found.values == pytest.approx(torch.linalg.eigvalsh(exact).flip(0)[:3].tolist(), rel=1e-6)
    assert trace(case.model, case.batches, case.criterion, **given).value == pytest.approx(
        float(exact.trace()), rel=0.05
    )
    with pytest.raises(InputError, match="hessian"):
        top_eigenvalues(case.model, case.batches, operator="fischer")


def test_what_has_no_definition_says_so() -> None:
    case = make("squared")
    contrastive = Objective(case.model, case.batches, lambda output, target: torch.pdist(output).mean(), task=case.task)
    with pytest.raises(InputError) as refused:
        as_dense(OPERATORS["empirical-fisher"](contrastive))
    assert refused.value.code == "no_observations"
    with pytest.raises(InputError) as refused:
        as_dense(OPERATORS["fisher"](Objective(case.model, case.batches, nn.HuberLoss(), task=case.task)))
    assert refused.value.code == "no_likelihood"

    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = case.model

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"answer": self.body(x), "input": x}

    def loss(output: dict[str, Tensor], target: Tensor) -> Tensor:
        return (output["answer"] - target).square().mean()

    with pytest.raises(InputError) as refused:
        as_dense(OPERATORS["gauss-newton"](Objective(TwoHeads(), case.batches, loss, task=case.task)))
    assert refused.value.code == "output_is_no_tensor"
