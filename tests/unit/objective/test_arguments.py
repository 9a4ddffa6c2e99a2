"""Arguments that mean nothing are refused by name, and a cap on products is kept."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.curvature import (
    diagonal,
    measure_curvature,
    power_iteration,
    spectral_density,
    top_eigenvalues,
    trace,
)
from quant_lens_engine.curvature.dense import DenseOperator
from quant_lens_engine.curvature.diagonal import krylov_diagonal
from quant_lens_engine.curvature.krylov_trace import krylov_trace
from quant_lens_engine.errors import InputError, NumericalError
from quant_lens_engine.landscape import trace_1d_loss
from quant_lens_engine.objective import Objective

REFUSED: list[tuple[Callable[..., Any], str, object]] = [
    *((top_eigenvalues, "confidence", value) for value in (0, 1, 1.5, math.nan, "0.95")),
    *((top_eigenvalues, "k", value) for value in (0, -1, 2.5, True)),
    (top_eigenvalues, "bottom", -1),
    *((top_eigenvalues, "tol", value) for value in (0, -1e-3, math.nan, math.inf)),
    (top_eigenvalues, "max_products", 0),
    (trace, "relative_error", 0),
    (trace, "max_products", 0),
    (diagonal, "relative_error", -0.1),
    (diagonal, "max_products", 0),
    (spectral_density, "runs", 0),
    (spectral_density, "steps", 0),
    (spectral_density, "confidence", 1),
    (power_iteration, "iters", 0),
]


def small() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)), [(torch.randn(9, 3), torch.arange(9) % 2)]


@pytest.mark.parametrize(("function", "name", "value"), REFUSED)
def test_what_means_nothing_is_refused_by_name(function: Callable[..., Any], name: str, value: object) -> None:
    model, batches = small()
    with pytest.raises(InputError, match=f"^{name} is ") as caught:
        function(model, batches, **{name: value})
    assert caught.value.code == "bad_argument"
    assert "it may be" in caught.value.hint


def test_the_least_that_is_allowed_runs() -> None:
    model, batches = small()
    assert len(spectral_density(model, batches, runs=1, steps=1).x)
    assert top_eigenvalues(model, batches, k=1, max_products=1).hvps == 2  # and one for the rounding
    power_iteration(model, batches, iters=1)


@pytest.mark.parametrize("dtype", ["floaty", "relu", "int8", torch.int64])
def test_a_dtype_that_is_none_is_refused(dtype: str | torch.dtype) -> None:
    model, batches = small()
    with pytest.raises(InputError, match=r"^dtype is ") as caught:
        Objective(model, batches, dtype=dtype)
    assert caught.value.code == "bad_argument"


@pytest.mark.parametrize("rows", [0, -1, 2.5, True, "8"])
def test_a_micro_batch_that_is_none_is_refused_wherever_it_is_said(rows: object) -> None:
    model, batches = small()
    objective = Objective(model, batches)
    for ask in (
        lambda: Objective(model, batches, micro_batch=rows),
        lambda: objective.regrouped(rows),
        lambda: objective.over(batches, rows),
        lambda: trace_1d_loss(model, batches, micro_batch=rows),
    ):
        with pytest.raises(InputError, match=r"^micro_batch is ") as caught:
            ask()
        assert caught.value.code == "bad_argument"
        assert "1 or more" in caught.value.hint


def test_a_micro_batch_of_one_row_and_of_more_than_there_are_run() -> None:
    model, batches = small()
    one, all_of_them = (Objective(model, batches, micro_batch=rows).loss() for rows in (1, 1000))
    assert one == pytest.approx(all_of_them)


@pytest.mark.parametrize("rows", [[], [-1], [0, 9]])
@pytest.mark.parametrize("joined", [True, False])
def test_rows_that_the_sample_has_not_are_refused(rows: list[int], joined: bool) -> None:
    model, batches = small()
    ragged = [(x, y, torch.zeros(len(x), i + 1)) for i, (x, y) in enumerate([(batches[0][0][:4],) * 2] * 2)]
    objective = Objective(model, batches if joined else [*ragged, (torch.zeros(1, 3), torch.zeros(1, 3))])
    with pytest.raises(InputError, match=r"^rows is ") as caught:
        objective.select(torch.tensor(rows, dtype=torch.int64))
    assert caught.value.code == "bad_argument"
    assert caught.value.hint.endswith("from 0 to 8")


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 1), ("steps", 2000), ("distance", 0), ("distance", math.nan), ("steps", "many")]
)
def test_a_line_that_means_nothing_is_refused_by_name(name: str, value: object) -> None:
    model, batches = small()
    with pytest.raises(InputError, match=f"^{name} is ") as caught:
        trace_1d_loss(model, batches, **{name: value})
    assert caught.value.code == "bad_argument"
    assert "it may be" in caught.value.hint


@pytest.mark.parametrize("estimate", [krylov_trace, krylov_diagonal])
@pytest.mark.parametrize("dimension", [1, 2, 20, 60])
@pytest.mark.parametrize("most", [1, 2, 3, 10, 25])
def test_no_more_products_are_taken_than_allowed(estimate: Callable[..., Any], dimension: int, most: int) -> None:
    random = torch.randn(dimension, dimension, generator=torch.Generator().manual_seed(1))
    operator = DenseOperator(random + random.T)
    found = estimate(operator, relative_error=1e-9, max_products=most)
    assert operator.products == found.products <= most
    errors = torch.as_tensor(found[1])
    exact = dimension <= most
    assert bool((errors == 0).all()) == exact
    assert bool(torch.isinf(errors).all()) == (most == 1 and not exact)


def test_the_cap_is_kept_by_the_public_functions_too() -> None:
    model, batches = small()
    one = trace(model, batches, max_products=1)
    assert one.hvps == 1
    assert math.isinf(one.standard_error)
    assert diagonal(model, batches, max_products=10).hvps <= 10


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0].cos()


class Waves(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return Once.apply(super().forward(x))


def test_the_hint_of_a_missing_second_derivative_is_true() -> None:
    model, batches = nn.Sequential(Waves(3, 3), nn.Linear(3, 2)), small()[1]
    for function in (top_eigenvalues, trace, spectral_density):
        with pytest.raises(NumericalError) as caught:
            function(model, batches)
        assert caught.value.code == "not_twice_differentiable"
        assert "measure_curvature(Objective(" in caught.value.hint
    found = measure_curvature(Objective(model, batches))
    assert found.derivative == "finite-difference"
    assert found.lambda_max.value is not None
