"""λmax, λmin and trace against the exact float64 Hessian, FP32 and quantized, with a ragged last batch."""

import copy
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call

from quant_lens_engine.curvature import measure_curvature, top_eigenvalues, trace
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema.analyses import CurvatureOptions

pytestmark = pytest.mark.slow

Batches = list[tuple[Tensor, Tensor]]
VARIANTS = ["FP32", "int8", "int4", "int3", "int2"]


class Exact:
    """The Hessian that every estimate is held against; computed once a variant."""

    def __init__(self, model: nn.Module, batches: Batches, hessian: Callable[..., Tensor]) -> None:
        self.float_objective = Objective(model, batches)
        self.model, self.hessian = model, hessian
        self.matrix = cache(self._matrix)

    def objective(self, variant: str) -> Objective:
        return (
            self.float_objective if variant == "FP32" else self.float_objective.at(quantize(self.model, variant).point)
        )

    def _matrix(self, variant: str) -> np.ndarray:
        matrix = self.hessian(self.objective(variant), nn.CrossEntropyLoss())
        assert torch.allclose(matrix, matrix.T, atol=1e-9 * float(matrix.abs().max()))
        return matrix.numpy()

    def largest(self, variant: str, count: int = 1) -> list[float]:
        return sorted(eigsh(self.matrix(variant), k=count, which="LA", return_eigenvectors=False), reverse=True)

    def smallest(self, variant: str) -> float:
        return float(eigsh(self.matrix(variant), k=1, which="SA", return_eigenvectors=False)[0])


@pytest.fixture(scope="module")
def mlp(digits_mlp: nn.Module, digits_batches: Batches, exact_hessian: Callable[..., Tensor]) -> Exact:
    return Exact(digits_mlp, digits_batches, exact_hessian)


@pytest.fixture(scope="module")
def cnn(digits_cnn: nn.Module, digits_batches: Batches, exact_hessian: Callable[..., Tensor]) -> Exact:
    return Exact(digits_cnn, digits_batches, exact_hessian)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_measured_curvature_is_the_exact_one(network: str, variant: str, request: pytest.FixtureRequest) -> None:
    case: Exact = request.getfixturevalue(network)
    smallest, largest = case.smallest(variant), case.largest(variant)[0]
    total = float(case.matrix(variant).trace())
    measured = measure_curvature(case.objective(variant), CurvatureOptions(trace_probes=64))
    assert measured.converged, measured.reason
    assert measured.lambda_max.value == pytest.approx(largest, rel=1e-3)
    assert measured.lambda_min.value == pytest.approx(smallest, rel=1e-3)
    rounding = 1e-6 * largest
    assert measured.lambda_max.lower - rounding <= largest <= measured.lambda_max.upper + rounding
    assert measured.lambda_min.lower - rounding <= smallest <= measured.lambda_min.upper + rounding
    assert measured.trace.probes >= 12
    assert measured.trace.standard_error <= 0.02 * measured.trace.value or measured.trace.probes >= 64
    assert abs(measured.trace.value - total) <= 3 * measured.trace.standard_error
    assert measured.trace.standard_error < 0.05 * abs(total), "a wide error would hide a wrong trace"
    assert measured.lambda_max.residual < 1e-2 * largest
    assert measured.dimension == len(case.matrix(variant))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_example_that_ships(variant: str, digits_cnn_example: nn.Module, digits_batches: Batches) -> None:
    """λ of the shipped CNN against ARPACK on double-precision products over all rows in one batch."""
    float_objective = Objective(digits_cnn_example, digits_batches)
    point = float_objective.point if variant == "FP32" else quantize(digits_cnn_example, variant).point
    measured = measure_curvature(float_objective.at(point), CurvatureOptions(trace_probes=2))
    x, y = (torch.cat(column) for column in zip(*digits_batches, strict=True))
    leaves = {name: tensor.double().requires_grad_() for name, tensor in point.items()}
    model = copy.deepcopy(digits_cnn_example).double()
    loss = nn.functional.cross_entropy(functional_call(model, leaves, (x.double(),)), y)
    gradient = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    flat = torch.cat([part.reshape(-1) for part in gradient])

    def product(vector: np.ndarray) -> np.ndarray:
        parts = torch.autograd.grad(flat, list(leaves.values()), torch.from_numpy(vector).flatten(), retain_graph=True)
        return torch.cat([part.reshape(-1) for part in parts]).numpy()

    operator = LinearOperator((len(flat), len(flat)), matvec=product, dtype=np.float64)
    for eigenvalue, which in ((measured.lambda_max, "LA"), (measured.lambda_min, "SA")):
        exact = eigsh(operator, k=1, which=which, tol=1e-6, return_eigenvectors=False)[0]
        assert eigenvalue.value == pytest.approx(exact, rel=1e-3)


@pytest.mark.slow
def test_top_eigenvalues_of_the_network(mlp: Exact, digits_batches: Batches) -> None:
    found = top_eigenvalues(mlp.model, digits_batches, nn.CrossEntropyLoss(), k=5, tol=1e-3)
    assert found.converged
    assert found.values.tolist() == pytest.approx(mlp.largest("FP32", 5), rel=2e-3)


@pytest.mark.slow
def test_trace_to_a_relative_error(cnn: Exact, digits_batches: Batches) -> None:
    found = trace(cnn.model, digits_batches, nn.CrossEntropyLoss(), relative_error=0.01)
    total = float(cnn.matrix("FP32").trace())
    assert 0 < found.standard_error <= 0.01 * abs(found.value)
    assert abs(found.value - total) <= 3 * found.standard_error


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch", [1, 7, 64, 300, 1000])
def test_micro_batches_do_not_matter(micro_batch: int, digits_mlp: nn.Module, digits_batches: Batches) -> None:
    """Weighted by their rows, batches of any size add up: an unweighted mean of ragged batches is percents off."""
    options = CurvatureOptions(trace_probes=2, max_products=30, tolerance=1e-3)
    rows = digits_batches[:1] if micro_batch == 1 else digits_batches
    whole = [tuple(torch.cat(column) for column in zip(*rows, strict=True))]
    one = measure_curvature(Objective(digits_mlp, whole, dtype="float64"), options)
    many = measure_curvature(Objective(digits_mlp, rows, dtype="float64", micro_batch=micro_batch), options)
    assert many.lambda_max.value == pytest.approx(one.lambda_max.value, rel=1e-10)
    assert many.lambda_min.value == pytest.approx(one.lambda_min.value, rel=1e-8)
    assert many.trace.value == pytest.approx(one.trace.value, rel=1e-8)
    assert many.lambda_max.batch_std == pytest.approx(one.lambda_max.batch_std, rel=1e-6)


@pytest.mark.slow
def test_both_plans_give_the_same_digits(digits_cnn: nn.Module, digits_batches: Batches) -> None:
    options = CurvatureOptions(trace_probes=4, max_products=20, tolerance=1e-3)
    reuse, fresh = (
        measure_curvature(Objective(digits_cnn, digits_batches), options, hvp_plan=plan) for plan in ("reuse", "fresh")
    )
    assert reuse.model_dump(exclude={"elapsed_s"}) == fresh.model_dump(exclude={"elapsed_s"})


def test_equal_seeds_give_equal_digits(digits_cnn: nn.Module, digits_batches: Batches) -> None:
    options = CurvatureOptions(trace_probes=4, max_products=20, tolerance=1e-3)
    one, two = (measure_curvature(Objective(digits_cnn, digits_batches), options, seed=5) for _ in range(2))
    other = measure_curvature(Objective(digits_cnn, digits_batches), options, seed=6)
    assert one.model_dump(exclude={"elapsed_s"}) == two.model_dump(exclude={"elapsed_s"})
    assert one.trace.value != other.trace.value
