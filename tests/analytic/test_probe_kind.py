"""The choice between one probe for all terms of a sum and one for each: no bias by it, and never notably dearer."""

from typing import Any

import numpy as np
import pytest
import torch

from quant_lens_engine.curvature import krylov_trace as module
from quant_lens_engine.curvature import measure_curvature
from quant_lens_engine.curvature.krylov import Krylov
from quant_lens_engine.curvature.krylov_trace import Trace, krylov_trace
from quant_lens_engine.curvature.operators.hessian import HessianOperator
from quant_lens_engine.curvature.probe_kind import PILOT, Spreads, apart_pays, spreads
from quant_lens_engine.curvature.traces import FEWEST_PROBES
from quant_lens_engine.schema.analyses import CurvatureOptions
from tests.analytic.sums import DenseSum, example, perceptron, variances

pytestmark = pytest.mark.slow

FEWEST_PRODUCTS = 12 + PILOT + FEWEST_PROBES


def basis_of(operator: DenseSum, steps: int = 12) -> Krylov:
    krylov = Krylov(operator, 0)
    for _ in range(steps):
        krylov.step()
    return krylov


def forced(monkeypatch: pytest.MonkeyPatch, apart: bool) -> None:
    monkeypatch.setattr(module, "apart_pays", lambda *_, **__: apart)


def taken(operator: Any, relative_error: float, seeds: int) -> list[Trace]:
    return [krylov_trace(operator, relative_error=relative_error, seed=seed) for seed in range(seeds)]


def products_of(found: list[Trace]) -> float:
    return float(np.mean([one.products for one in found]))


@pytest.mark.parametrize("name", ["trained perceptron", "definite, unlike", "cancelling"])
def test_the_pilot_estimates_trace_and_variances_without_bias(name: str) -> None:
    operator = example(name)
    krylov = basis_of(operator)
    known = float(krylov.projected.trace())
    found = torch.tensor([spreads(operator, krylov.basis, known, seed) for seed in range(200)])
    expected = torch.tensor([operator.matrix.trace(), *variances(operator.parts, krylov.basis)])
    assert bool(((found.mean(0) - expected).abs() <= 3.5 * found.std(0) / 200**0.5).all())
    ratio = found[:, 2] / found[:, 1]
    assert ratio.log().std() < 0.45, "what it decides by is far surer than the ratio of two variances of 4 samples, 1.2"


def test_the_pilot_of_a_network_is_that_of_its_terms_whatever_the_micro_batches() -> None:
    operator, dense = HessianOperator(perceptron(steps=150)), example("trained perceptron")
    krylov = basis_of(dense)
    expected = torch.tensor(spreads(dense, krylov.basis, 0.0, 3))
    for given in (operator, HessianOperator(perceptron(steps=150).regrouped(3))):
        found = torch.tensor(spreads(given, krylov.basis, 0.0, 3))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
        assert given.products == PILOT


@pytest.mark.parametrize(
    ("name", "relative_error"),
    [
        ("trained perceptron", 0.02),
        ("untrained perceptron", 0.05),
        ("untrained perceptron", 0.02),
        ("definite, alike", 0.03),
        ("definite, alike", 0.01),
        ("definite, unlike", 0.01),
        ("cancelling", 0.05),
        ("cancelling", 0.02),
    ],
)
def test_the_choice_is_never_notably_dearer_than_the_better_kind(
    name: str, relative_error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, seeds = example(name), 12
    chosen = products_of(taken(operator, relative_error, seeds))
    forced(monkeypatch, True)
    apart = products_of(taken(operator, relative_error, seeds)) - PILOT
    monkeypatch.setattr(operator, "terms", 1)
    together = products_of(taken(operator, relative_error, seeds))
    assert chosen <= 1.35 * min(apart, together), (chosen, apart, together)


def test_a_probe_for_each_group_of_rows_saves_products_where_a_network_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator = example("trained perceptron")
    apart = taken(operator, 0.02, 20)
    monkeypatch.setattr(operator, "terms", 1)
    assert products_of(apart) < 0.9 * products_of(taken(operator, 0.02, 20))


@pytest.mark.parametrize(
    ("name", "relative_error", "exceeds"),
    [
        ("trained perceptron", 0.015, FEWEST_PRODUCTS),  # a probe for each term
        ("definite, alike", 0.01, FEWEST_PRODUCTS),  # either: the choice is open
        ("definite, unlike", 0.02, FEWEST_PRODUCTS),
        ("cancelling", 0.015, FEWEST_PRODUCTS + 5),  # one for all, whose basis has 17 vectors at least
    ],
)
def test_the_standard_error_holds_after_the_choice_and_the_stop(name: str, relative_error: float, exceeds: int) -> None:
    """At targets that the fewest probes do not reach: two standard errors hold the trace in about 95 % of 150 seeds."""
    operator = example(name)
    truth = float(operator.matrix.trace())
    found = taken(operator, relative_error, 150)
    assert all(0 < one.standard_error <= relative_error * abs(one.value) for one in found)
    assert np.mean([one.products > exceeds for one in found]) > 0.8
    errors = np.array([one.value - truth for one in found])
    assert np.mean(np.abs(errors) <= [2 * one.standard_error for one in found]) >= 0.9
    assert abs(errors.mean()) <= 0.25 * errors.std()


def test_where_a_complete_basis_is_near_the_trace_is_exact() -> None:
    operator = example("untrained perceptron")
    found = krylov_trace(operator, relative_error=1e-6)
    assert found.standard_error <= 1e-12 * found.value
    assert found.value == pytest.approx(float(operator.matrix.trace()), rel=1e-9)
    assert found.products <= operator.dimension + PILOT + FEWEST_PROBES


def test_a_cap_holds_and_leaves_room_for_the_pilot() -> None:
    for name in ("trained perceptron", "cancelling"):
        for most in (1, 20, 27, 28, 40):
            assert krylov_trace(example(name), relative_error=1e-9, max_products=most).products == most


def test_what_decides() -> None:
    given = {"relative_error": 0.01, "most": 500, "exact": 10**6}
    assert apart_pays(Spreads(1.0, 0.01, 0.005), **given)
    assert not apart_pays(Spreads(1.0, 0.01, 0.008), **given), "not by enough"
    assert apart_pays(Spreads(1.0, 1e-5, 2e-4), **given), "the fewest will do"
    assert not apart_pays(Spreads(1.0, 0.01, 0.005), **given | {"exact": 40}), "exact before"
    assert not apart_pays(Spreads(1.0, 0.01, 0.005), together=60, **given), "most of the others are there already"
    short = given | {"most": 20}
    assert apart_pays(Spreads(1.0, 0.1, 0.05), **short)
    assert not apart_pays(Spreads(1.0, 0.1, 0.05), together=40, **short)
    assert apart_pays(Spreads(0.0, 0.1, 0.05), **given), "a trace of zero: less variance at the cap"
    assert not apart_pays(Spreads(0.0, 0.05, 0.1), **given)
    assert apart_pays(Spreads(0.0, 0.0, 0.0), **given)


REPORT = CurvatureOptions(
    top=1, bottom=1, max_products=12, trace_error=0.02, trace_probes=120, layer_eigenvalues="none", density_runs=2,
    density_steps=4, sharpness=False,
)  # fmt: skip


def test_the_report_needs_far_fewer_products_where_groups_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    given = perceptron(rows=1536, steps=150)
    found = measure_curvature(given, REPORT)
    monkeypatch.setattr(HessianOperator, "terms", 1)
    plain = measure_curvature(given, REPORT)
    assert found.products["trace"] < 0.7 * plain.products["trace"]
    assert max(each.trace.standard_error / each.trace.value for each in (found, plain)) <= 0.02


def test_the_report_has_the_smaller_error_where_the_cap_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure_curvature(perceptron(), REPORT)
    monkeypatch.setattr(HessianOperator, "terms", 1)
    plain = measure_curvature(perceptron(), REPORT)
    assert found.products["trace"] == plain.products["trace"] == REPORT.trace_probes
    assert found.trace.standard_error < 0.7 * plain.trace.standard_error
