"""Differences of gradients against exact products, on trained perceptrons, smooth and with kinks."""

from functools import cache

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from quant_lens_engine.curvature import HessianOperator, measure_curvature
from quant_lens_engine.curvature.finite_difference import FiniteDifferenceOperator
from quant_lens_engine.curvature.lanczos import extreme_spectrum
from quant_lens_engine.objective import Objective
from quant_lens_engine.schema.analyses import CurvatureOptions

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
ACCURACY = {
    ("float32", "smooth"): 1e-3,
    ("float32", "relu"): 5e-3,
    ("float64", "smooth"): 1e-6,
    ("float64", "relu"): 1e-6,
}


@cache
def trained(activation: str, steps: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    digits = load_digits()
    x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    torch.manual_seed(0)
    act = ACTIVATIONS[activation]
    model = nn.Sequential(nn.Linear(64, 64), act(), nn.Linear(64, 64), act(), nn.Linear(64, 10))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        rows = torch.randint(1500, (128,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()
    return model, x[:512], y[:512]


def objective_of(activation: str, steps: int, dtype: str) -> Objective:
    model, x, y = trained(activation, steps)
    return Objective(model, [(x, y)], dtype=dtype)


def largest(operator: HessianOperator | FiniteDifferenceOperator) -> float:
    return extreme_spectrum(operator, tolerance=1e-4, max_products=100, confidence=0.95, seed=0).top.values[0]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("steps", [150, 1500])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_largest_eigenvalue(activation: str, steps: int, dtype: str) -> None:
    exact = largest(HessianOperator(objective_of(activation, steps, "float64")))
    differences = FiniteDifferenceOperator(objective_of(activation, steps, dtype))
    found = largest(differences)
    assert found == pytest.approx(exact, rel=ACCURACY[dtype, "relu" if activation == "relu" else "smooth"])
    assert abs(found - exact) <= differences.product_error <= 0.05 * exact


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_a_product_knows_its_error(activation: str, dtype: str) -> None:
    exact = HessianOperator(objective_of(activation, 150, "float64"))
    differences = FiniteDifferenceOperator(objective_of(activation, 150, dtype))
    vector = torch.randn(exact.dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(4):  # towards the sharp end, where kinks and third derivatives count most
        vector = exact.matvec(vector / torch.linalg.vector_norm(vector))
        unit = vector / torch.linalg.vector_norm(vector)
        error = torch.linalg.vector_norm(differences.matvec(unit) - exact.matvec(unit))
        assert float(error) <= differences.product_error


def test_a_kink_beside_the_point_is_stepped_over() -> None:
    """L = Σ w²/2 + relu(w − t): the jump at t, within the first step, is no curvature."""

    class Kinked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kink = torch.relu(self.weight - 1 - 2e-9).sum()
            return x * (self.weight.square().sum() / 2 + kink)

    objective = Objective(
        Kinked(), [(torch.ones(2, 1, dtype=torch.float64), torch.zeros(2, 1))], lambda output, _: output.mean()
    )
    operator = FiniteDifferenceOperator(objective)
    vector = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(operator.matvec(vector), vector, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_report_of_a_network_with_kinks() -> None:
    options = CurvatureOptions(trace_probes=8, density_runs=1)
    exact = measure_curvature(objective_of("relu", 150, "float64"), options)
    found = measure_curvature(objective_of("relu", 150, "float32"), options, hvp_plan="finite-difference")
    assert found.derivative == "finite-difference"
    assert found.lambda_max.value == pytest.approx(exact.lambda_max.value, rel=5e-3)
    assert found.lambda_max.lower <= exact.lambda_max.value <= found.lambda_max.upper
    assert "hides" not in (found.reason or "")
    for one, other in ((found, exact), *zip(found.layers, exact.layers, strict=True)):
        assert one.trace.lower <= other.trace.upper
        assert other.trace.lower <= one.trace.upper
        assert one.trace.standard_error is None, "that over probes is less than what the differences are off"
    assert found.effective_rank.lower is None
