"""The diagonal of the Hessian against the dense one, and its standard errors against what they promise."""

import pytest
import torch
from torch import nn

from quant_lens_engine.curvature import diagonal, top_eigenvalues
from quant_lens_engine.curvature.dense import DenseOperator, as_dense
from quant_lens_engine.curvature.diagonal import krylov_diagonal
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.errors import InputError
from quant_lens_engine.objective import Objective


def matrix(seed: int, size: int = 150) -> torch.Tensor:
    """A few large eigenvalues of both signs over a bulk."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]
    values = torch.randn(size, dtype=torch.float64, generator=generator) * 0.1
    values[:8] = torch.tensor([50.0, 20, 10, 5, 3, 2, -4, -1])
    return basis @ torch.diag(values) @ basis.T


def test_standard_errors_hold_their_entries() -> None:
    """Two of them in 19 of 20 entries, over 40 seeds; and the norm of the error is what it was said to be."""
    inside, entries, ratios = 0, 0, []
    for seed in range(40):
        exact = matrix(seed)
        found = krylov_diagonal(DenseOperator(exact), relative_error=0.02, max_products=80, seed=seed)
        error = (found.values - exact.diagonal()).abs()
        inside += int((error <= 2 * found.standard_errors).sum())
        entries += len(error)
        ratios.append(float(error.norm() / found.standard_errors.norm()))
    assert 0.93 < inside / entries < 0.98
    assert 0.85 < sum(ratios) / len(ratios) < 1.05


def test_it_stops_at_its_error() -> None:
    exact = matrix(1)
    found = krylov_diagonal(DenseOperator(exact), relative_error=0.01)
    assert found.relative_error <= 0.01
    assert float((found.values - exact.diagonal()).norm() / exact.diagonal().norm()) < 0.02
    rough = krylov_diagonal(DenseOperator(exact), relative_error=1e-9, max_products=40)
    assert rough.products == 40
    assert rough.relative_error > 1e-9


@pytest.mark.parametrize("operator", ["hessian", "gauss-newton", "empirical-fisher"])
def test_of_a_network(operator: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 3)).double()
    batches = [(torch.randn(20, 5, dtype=torch.float64), torch.randint(3, (20,)))]
    objective = Objective(model, batches)
    exact = as_dense(OPERATORS[operator](objective)).diagonal()
    found = diagonal(model, batches, relative_error=0.03, operator=operator)
    flat = torch.cat([found.values[name].reshape(-1) for name, _ in model.named_parameters()])
    assert float((flat - exact).norm() / exact.norm()) < 0.06
    head = diagonal(model, batches, operator=operator, parameters=["2.bias"])
    torch.testing.assert_close(head.values["2.bias"], exact[-3:], rtol=1e-9, atol=1e-12)
    assert set(diagonal(model, batches, operator=operator, parameters=["2"]).values) == {"2.weight", "2.bias"}


def test_a_group_of_parameters_by_name() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    batches = [(torch.randn(20, 5, dtype=torch.float64), torch.randint(3, (20,)))]
    exact = as_dense(OPERATORS["hessian"](Objective(model, batches)))
    block = torch.linalg.eigvalsh(exact[36:, 36:])
    found = top_eigenvalues(model, batches, k=2, tol=1e-8, parameters=["2"])
    assert found.values.tolist() == pytest.approx(block.flip(0)[:2].tolist(), rel=1e-7)
    with pytest.raises(InputError, match=r"no parameter 'hed'"):
        top_eigenvalues(model, batches, parameters=["hed"])
