"""A whole report where memory is short: every pass asks for less, once, and the numbers are the same."""

import pytest
import torch
from torch import nn

from quant_lens_engine.curvature import HessianOperator, measure_curvature
from quant_lens_engine.curvature import plan as plans
from quant_lens_engine.objective import Objective
from quant_lens_engine.schema.curvature import Curvature

pytestmark = pytest.mark.slow

LAYERS = {"first": ["0.weight"], "second": ["2.weight"]}


def objective_of() -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return Objective(model, [(torch.randn(24, 4, dtype=torch.float64), torch.randint(3, (24,)))])


def numbers(curvature: Curvature) -> list[float]:
    sharpness = curvature.sharpness
    assert sharpness is not None
    return [
        *[item.value for item in (*curvature.largest, *curvature.smallest, curvature.trace, curvature.effective_rank)],
        *[layer.lambda_max.value for layer in curvature.layers],
        *[layer.trace.value for layer in curvature.layers],
        *(curvature.lambda_max.batch_std, curvature.lambda_max.lower, curvature.lambda_max.upper),
        *(sharpness.relative_lambda_max.value, sharpness.adaptive.rise, sharpness.plain.rise),
        *curvature.density.y,
    ]


@pytest.mark.parametrize("with_gradient_only", [False, True])
@pytest.mark.parametrize("plan", [None, "reuse", "forward-over-reverse", "finite-difference"])
def test_a_report_goes_on_with_fewer_rows(
    plan: str | None, with_gradient_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = measure_curvature(objective_of(), layers=LAYERS, hvp_plan=plan)
    output, failures = Objective.output, []

    def short_of_memory(self: Objective, batch, point=None):
        if batch.rows > 3 and (torch.is_grad_enabled() or not with_gradient_only):
            failures.append(batch.rows)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return output(self, batch, point)

    monkeypatch.setattr(Objective, "output", short_of_memory)
    found = measure_curvature(objective_of(), layers=LAYERS, hvp_plan=plan)
    rel = 1e-4 if plan == "finite-difference" else 1e-6
    assert numbers(found) == pytest.approx(numbers(expected), rel=rel, abs=rel)
    assert found.lowered[-3:] == [f"micro-batches of {rows} rows" for rows in (12, 6, 3)]
    assert len(failures) <= 3 + 4  # nothing is tried twice: graphs or directions are given up first


def test_the_plan_is_chosen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    graph_bytes = plans.graph_bytes

    def counted(*arguments) -> int:
        calls.append(arguments)
        return graph_bytes(*arguments)

    monkeypatch.setattr(plans, "graph_bytes", counted)
    measure_curvature(objective_of(), layers=LAYERS)
    assert len(calls) == 1


def test_forward_over_reverse_takes_weights_once(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, passes = objective_of().regrouped(8), []
    terms = Objective.terms
    monkeypatch.setattr(Objective, "terms", lambda *arguments: passes.append(1) or terms(*arguments))
    operator = HessianOperator(objective, "forward-over-reverse")
    for _ in range(4):
        operator.matvec(torch.ones(objective.dimension, dtype=torch.float64))
    assert len(passes) == 3 + 4 * 3
