"""Every plan of Hessian products, on every kind of network, against the dense Hessian in float64."""

import pytest
import torch
from torch import nn

from quant_lens_engine.curvature import HessianOperator, measure_curvature
from quant_lens_engine.curvature.dense import as_dense
from quant_lens_engine.curvature.plan_timing import quickest_plan, time_plans
from quant_lens_engine.errors import InputError, NumericalError
from quant_lens_engine.execution import resolve_execution
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema import Execution, parse_scheme
from quant_lens_engine.schema.analyses import CurvatureOptions

pytestmark = pytest.mark.slow


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(x).mean(1))


def objective_of(kind: str) -> Objective:
    torch.manual_seed(0)
    model = {
        "cnn": lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)
        ),
        "group-norm": lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)
        ),
        "transformer": Attentive,
        "lstm": Recurrent,
    }[kind]()
    shape = (1, 6, 6) if kind in ("cnn", "group-norm") else (5, 4) if kind == "transformer" else (5, 3)
    x, y = torch.randn(9, *shape), torch.randint(3, (9,))
    return Objective(model, [(x[:4], y[:4]), (x[4:8], y[4:8]), (x[8:], y[8:])], dtype="float64")


class Square(torch.autograd.Function):
    """Differentiable twice, without a forward mode."""

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class Squared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Square.apply(self.body(x))


@pytest.mark.parametrize("kind", ["cnn", "group-norm", "transformer", "lstm"])
def test_forward_over_reverse_is_the_hessian(kind: str) -> None:
    objective = objective_of(kind)
    exact = as_dense(HessianOperator(objective, "fresh"))
    forward = HessianOperator(objective, "forward-over-reverse")
    identity = torch.eye(objective.dimension, dtype=torch.float64)
    torch.testing.assert_close(forward.matmat(identity), exact, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scheme", ["w4a4-dynamic", "w8a8"])
def test_through_rounded_activations_too(scheme: str) -> None:
    objective = objective_of("cnn")
    smooth = quantize(objective.model, parse_scheme(scheme), objective).smooth(objective)
    vectors = torch.randn(3, objective.dimension, dtype=torch.float64)
    expected = HessianOperator(smooth, "reuse").matmat(vectors)
    forward = HessianOperator(smooth, "forward-over-reverse")
    found = forward.matmat(vectors)
    assert forward.plan == "fresh"
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_a_network_without_a_forward_mode_is_named() -> None:
    objective = Objective(Squared(), [(torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0]))])
    with pytest.raises(NumericalError) as refused:
        HessianOperator(objective, "forward-over-reverse").matvec(torch.ones(objective.dimension))
    assert refused.value.code == "no_forward_mode"
    assert set(time_plans(objective)) == {"reuse", "fresh"}


def test_a_plan_that_an_operator_has_not() -> None:
    with pytest.raises(InputError) as refused:
        HessianOperator(objective_of("cnn"), "finite-difference")
    assert refused.value.code == "no_such_plan"


@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_no_number_of_the_report_depends_on_the_plan(kind: str) -> None:
    """But for the error of differences, which in double precision is below 1e-5."""
    objective = objective_of(kind)
    options = CurvatureOptions(tolerance=1e-6, trace_probes=16, density_steps=6)
    plans = ("reuse", "fresh", "forward-over-reverse", "finite-difference")
    first, *others = [measure_curvature(objective, options, hvp_plan=plan) for plan in plans]
    for plan, other in zip(plans[1:], others, strict=True):
        assert other.derivative == ("finite-difference" if plan == "finite-difference" else "exact")
        for name in ("lambda_max", "lambda_min", "trace", "effective_rank"):
            assert getattr(other, name).value == pytest.approx(getattr(first, name).value, rel=1e-4), (plan, name)
        assert [e.value for e in other.largest] == pytest.approx([e.value for e in first.largest], rel=1e-4)
        assert other.density.y == pytest.approx(first.density.y, rel=0.02, abs=1e-3 * max(first.density.y))


def test_the_stopwatch_is_asked_for() -> None:
    objective = objective_of("cnn")
    assert quickest_plan(objective) in HessianOperator.plans
    block = resolve_execution(Execution(hvp_plan="measured"), lambda _: objective, batch_size=4)
    assert block["hvp_plan"] in HessianOperator.plans
