"""Models whose Hessian is known on paper."""

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.curvature import (
    HessianOperator,
    measure_curvature,
    power_iteration,
    spectral_density,
    top_eigenvalues,
    trace,
)
from quant_lens_engine.curvature.dense import DenseOperator, as_dense
from quant_lens_engine.curvature.krylov import Krylov
from quant_lens_engine.curvature.krylov_trace import krylov_trace
from quant_lens_engine.curvature.traces import BlockTraces
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.randomness import rademacher
from quant_lens_engine.schema.analyses import CurvatureOptions


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ragged(*columns: Tensor, size: int = 16) -> list[tuple[Tensor, ...]]:
    return [tuple(column[start : start + size] for column in columns) for start in range(0, len(columns[0]), size)]


def test_linear_regression() -> None:
    """L = ‖Xw − y‖²/n has H = 2XᵀX/n everywhere."""
    x, y = random(53, 12), random(53, 1, seed=1)
    hessian = 2 / 53 * x.T @ x
    model = nn.Linear(12, 1, bias=False).double()
    measured = measure_curvature(Objective(model, ragged(x, y), task="regression"), CurvatureOptions(top=12))
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert measured.converged
    assert measured.eigenvalues == pytest.approx(eigenvalues.flip(0).tolist(), rel=1e-9)
    assert measured.lambda_min.value == pytest.approx(float(eigenvalues[0]), rel=1e-9)
    assert measured.trace.value == pytest.approx(float(hessian.trace()), rel=1e-12)
    assert measured.trace.standard_error == 0, "a dozen dimensions are summed, not sampled"


def test_several_outputs_are_averaged_over_elements() -> None:
    """MSE divides by rows and outputs: H = 2/(nk) · I ⊗ XᵀX."""
    x, y = random(29, 4), random(29, 3, seed=1)
    operator = HessianOperator(Objective(nn.Linear(4, 3, bias=False).double(), ragged(x, y, size=7), task="regression"))
    expected = 2 / (29 * 3) * torch.kron(torch.eye(3, dtype=torch.float64), x.T @ x)
    assert torch.allclose(as_dense(operator), expected, rtol=1e-12, atol=1e-14)


def test_softmax_regression() -> None:
    """Cross-entropy of a linear map: H = 1/n Σ (diag p − ppᵀ) ⊗ xxᵀ."""
    x, y = random(41, 5), torch.randint(0, 4, (41,), generator=torch.Generator().manual_seed(2))
    model = nn.Linear(5, 4, bias=False).double()
    p = torch.softmax(x @ model.weight.detach().T, 1)
    blocks = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("nab,ni,nj->aibj", blocks, x, x).reshape(20, 20) / 41
    operator = HessianOperator(Objective(model, ragged(x, y)))
    assert torch.allclose(as_dense(operator), expected, rtol=1e-10, atol=1e-14)


def test_class_weights_and_ignored_labels_set_the_denominator() -> None:
    x, y = random(37, 5), torch.randint(0, 4, (37,), generator=torch.Generator().manual_seed(2))
    y[::5] = -100
    weight = torch.tensor([0.1, 1.0, 2.0, 5.0], dtype=torch.float64)
    model = nn.Linear(5, 4, bias=False).double()
    criterion = nn.CrossEntropyLoss(weight=weight)
    kept = y >= 0
    p = torch.softmax(x @ model.weight.detach().T, 1)[kept]
    blocks = (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]) * weight[y[kept]][:, None, None]
    expected = torch.einsum("nab,ni,nj->aibj", blocks, x[kept], x[kept]).reshape(20, 20) / weight[y[kept]].sum()
    objective = Objective(model, ragged(x, y, size=6), criterion)
    assert objective.loss() == pytest.approx(float(criterion(model(x), y).detach()), rel=1e-12)
    assert torch.allclose(as_dense(HessianOperator(objective)), expected, rtol=1e-10, atol=1e-14)


def test_logistic_regression_is_bounded_by_a_quarter() -> None:
    """H = XᵀDX/n with D ≤ ¼."""
    x = random(60, 6)
    y = (random(60, 1, seed=3) > 0).double()
    model = nn.Linear(6, 1, bias=False).double()
    p = torch.sigmoid(x @ model.weight.detach().T)
    expected = x.T @ (p * (1 - p) * x) / 60
    found = power_iteration(model, ragged(x, y), nn.BCEWithLogitsLoss(), "cpu", iters=20)
    assert found == pytest.approx(float(torch.linalg.eigvalsh(expected)[-1]), rel=1e-6)
    assert found <= 0.25 * float(torch.linalg.eigvalsh(x.T @ x / 60)[-1])


def test_a_sum_is_not_a_mean() -> None:
    x, y = random(20, 3), random(20, 1, seed=1)
    model = nn.Linear(3, 1, bias=False).double()
    objective = Objective(model, ragged(x, y, size=8), nn.MSELoss(reduction="sum"), task="regression")
    assert objective.loss() == pytest.approx(float(((model(x) - y) ** 2).sum().detach()), rel=1e-12)
    assert torch.allclose(as_dense(HessianOperator(objective)), 2 * x.T @ x, rtol=1e-10)
    total = measure_curvature(objective).lambda_max
    mean = measure_curvature(Objective(model, ragged(x, y, size=8), task="regression")).lambda_max
    assert total.value == pytest.approx(20 * mean.value, rel=1e-12)
    assert total.batch_std == pytest.approx(20 * mean.batch_std, rel=1e-9), "a shard of a sum is scaled to the whole"


def test_a_linear_loss_has_no_curvature() -> None:
    model = nn.Linear(6, 1).double()
    objective = Objective(model, [random(30, 6)], criterion=lambda output, _: output.mean())
    measured = measure_curvature(objective)
    assert measured.converged
    assert (measured.lambda_max.value, measured.lambda_min.value, measured.trace.value) == (0, 0, 0)


def test_self_distillation_at_the_float_point_is_the_fisher_information() -> None:
    x = random(31, 4)
    model = nn.Linear(4, 3, bias=False).double()
    p = torch.softmax(x @ model.weight.detach().T, 1)
    blocks = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    fisher = torch.einsum("nab,ni,nj->aibj", blocks, x, x).reshape(12, 12) / 31
    objective = Objective(model, ragged(x), task="self-distillation")
    assert objective.loss() == pytest.approx(0, abs=1e-12)
    assert torch.allclose(as_dense(HessianOperator(objective)), fisher, rtol=1e-9, atol=1e-13)


def test_tied_weights_count_once() -> None:
    """f(x) = w (w x): L = mean (w²x)² with one parameter; H = mean 12 w² x²."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(1, 1, bias=False)
            self.second = nn.Linear(1, 1, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    model, x = Tied().double(), random(9, 1)
    w = float(model.first.weight.detach())
    operator = HessianOperator(Objective(model, [(x, torch.zeros(9, 1, dtype=torch.float64))], task="regression"))
    assert operator.dimension == 1
    assert float(as_dense(operator)) == pytest.approx(12 * w**2 * float((x**2).mean()), rel=1e-12)


def block_traces(operator: DenseOperator, krylov: Krylov, probes: int, seed: int) -> BlockTraces:
    """Traces of the whole and of the first third, from Rademacher probes."""
    traces = BlockTraces(krylov, [[slice(0, operator.dimension // 3)]])
    for index in range(probes):
        probe = rademacher(operator.dimension, seed, "probe", index)
        traces.add(probe, operator.matvec(probe))
    return traces


def test_probes_have_the_variance_of_the_textbook() -> None:
    """It is twice the squares off the diagonal of what is left behind a basis, (I − QQᵀ)A(I − QQᵀ)."""
    noise = random(40, 40)
    operator = DenseOperator((noise + noise.T) / 2)
    krylov = Krylov(operator, 0)
    krylov.step()
    outside = torch.eye(40, dtype=torch.float64) - krylov.basis.T @ krylov.basis
    rest = outside @ operator.matrix @ outside
    variance = 2 * float((rest**2).sum() - (rest.diagonal() ** 2).sum())
    errors = torch.tensor(
        [block_traces(operator, krylov, 39, seed).whole.value - float(operator.matrix.trace()) for seed in range(300)]
    )
    assert float(errors.square().mean()) * 39 == pytest.approx(variance, rel=0.25)
    assert abs(float(errors.mean())) < 4 * (variance / 39 / 300) ** 0.5


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("probes", [12, 64])
def test_trace_intervals_cover_at_their_level(steps: int, probes: int) -> None:
    """Of the whole, of a block, of the squares, and of the effective rank; 95 % of 200 seeds, with its own error."""
    matrix = torch.diag(torch.linspace(0, 1, 90).double() ** 8 * 100)
    turn = torch.linalg.qr(random(90, 90))[0]
    operator = DenseOperator(turn @ matrix @ turn.T)
    krylov = Krylov(operator, 0)
    for _ in range(steps):
        krylov.step()
    exact = operator.matrix
    trace, squares = float(exact.trace()), float(exact.square().sum())
    truths = [trace, float(exact.diagonal()[:30].sum()), squares, trace**2 / squares]
    within = torch.zeros(4)
    for seed in range(200):
        found = block_traces(operator, krylov, probes, seed)
        for index, mean in enumerate((found.whole, found.blocks[0], found.squares, found.effective_rank())):
            low, high = mean.interval(0.95)
            within[index] += low <= truths[index] <= high
    assert within.min() >= 180, within
    assert within.max() <= 200


def test_lanczos_vectors_take_the_variance_away() -> None:
    eigenvalues = torch.cat([torch.tensor([50.0, 30.0, 20.0]), torch.full((197,), 0.01)])
    turn = torch.linalg.qr(random(200, 200))[0]
    operator = DenseOperator(turn @ torch.diag(eigenvalues.double()) @ turn.T)
    few, several = Krylov(operator, 0), Krylov(operator, 0)
    few.step()
    for _ in range(5):
        several.step()
    plain, helped = (block_traces(operator, krylov, 64, 0).whole for krylov in (few, several))
    assert helped.standard_error < 1e-3 * plain.standard_error
    assert helped.value == pytest.approx(float(eigenvalues.sum()), abs=3 * helped.standard_error + 1e-9)


def test_the_parts_that_a_basis_knows_are_exact() -> None:
    """With all of B in one probe for each unit vector, every trace is exact, whatever the basis."""
    noise = random(30, 30)
    operator = DenseOperator((noise + noise.T) / 2)
    krylov = Krylov(operator, 3)
    for _ in range(7):
        krylov.step()
    scales = torch.linspace(0.5, 2, 30, dtype=torch.float64)
    traces = BlockTraces(krylov, [[slice(0, 10)], [slice(10, 12), slice(20, 30)]], scales)
    for unit in torch.eye(30, dtype=torch.float64) * 30**0.5:
        traces.add(unit, operator.matvec(unit))
    diagonal = operator.matrix.diagonal()
    assert traces.whole.value == pytest.approx(float(diagonal.sum()), abs=1e-10)
    assert traces.blocks[0].value == pytest.approx(float(diagonal[:10].sum()), abs=1e-10)
    assert traces.blocks[1].value == pytest.approx(float(diagonal[10:12].sum() + diagonal[20:].sum()), abs=1e-10)
    assert traces.scaled.value == pytest.approx(float(scales @ diagonal), abs=1e-10)
    assert traces.squares.value == pytest.approx(float(operator.matrix.square().sum()), rel=1e-10)


def test_a_small_operator_has_an_exact_trace() -> None:
    found = krylov_trace(DenseOperator(torch.diag(torch.arange(30.0))))
    assert (found.value, found.standard_error) == pytest.approx((435, 0), abs=1e-9)


def test_density_has_the_moments_of_the_spectrum() -> None:
    x, y = random(200, 40), random(200, 1, seed=1)
    density = spectral_density(nn.Linear(40, 1, bias=False).double(), ragged(x, y, size=64), nn.MSELoss())
    eigenvalues = torch.linalg.eigvalsh(2 / 200 * x.T @ x)
    mass = torch.trapezoid(torch.tensor(density.y), torch.tensor(density.x))
    assert float(mass) == pytest.approx(1, abs=1e-3)
    assert float((density.nodes * density.weights).sum()) == pytest.approx(float(eigenvalues.mean()), rel=0.1)
    assert float((density.nodes**2 * density.weights).sum()) == pytest.approx(float((eigenvalues**2).mean()), rel=0.15)


def test_both_ends_come_with_intervals_that_hold() -> None:
    """Two linear layers in a row: their Hessian has both signs."""
    x, y = random(120, 20), random(120, 1, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 3, bias=False), nn.Linear(3, 1, bias=False)).double()
    found = top_eigenvalues(model, ragged(x, y, size=32), nn.MSELoss(), k=3, bottom=3, tol=1e-6)
    parameters = dict(model.named_parameters())

    def loss(flat: Tensor) -> Tensor:
        shapes = [value.shape for value in parameters.values()]
        parts = flat.split([shape.numel() for shape in shapes])
        given = {name: part.view(shape) for name, part, shape in zip(parameters, parts, shapes, strict=True)}
        return nn.functional.mse_loss(torch.func.functional_call(model, given, (x,)), y)

    flat = torch.cat([value.detach().flatten() for value in parameters.values()])
    truth = torch.linalg.eigvalsh(torch.func.hessian(loss)(flat)).numpy()
    assert found.bottom is not None
    assert truth[0] < 0
    for end, expected in ((found, truth[::-1][:3]), (found.bottom, truth[:3])):
        assert end.values == pytest.approx(expected, rel=1e-5)
        assert (end.lower - 1e-9 <= expected).all()
        assert (expected <= end.upper + 1e-9).all()
    assert top_eigenvalues(model, ragged(x, y, size=32), nn.MSELoss(), k=1).bottom is None


def test_public_functions_agree(digits_mlp: nn.Module, digits_batches: list[tuple[Tensor, Tensor]]) -> None:
    top = top_eigenvalues(digits_mlp, digits_batches, k=1)
    assert power_iteration(digits_mlp, digits_batches, None, "cpu") == pytest.approx(top.values[0], rel=1e-3)
    assert trace(digits_mlp, digits_batches, relative_error=0.05).value > top.values[0] * 0.5
