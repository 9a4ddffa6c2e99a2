"""Traces by independent probes of each group of rows: unbiased, with intervals that hold, and far less noise."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.curvature import HessianOperator, measure_curvature
from quant_lens_engine.curvature.dense import DenseOperator, as_dense
from quant_lens_engine.curvature.finite_difference import FiniteDifferenceOperator
from quant_lens_engine.curvature.hessian_products import HessianWay
from quant_lens_engine.curvature.krylov import Krylov
from quant_lens_engine.curvature.krylov_trace import krylov_trace
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.probe_kind import PILOT
from quant_lens_engine.curvature.product_log import LoggedProducts
from quant_lens_engine.curvature.row_groups import GroupProbes, terms_of
from quant_lens_engine.curvature.traces import BlockTraces
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.randomness import rademacher
from quant_lens_engine.schema.analyses import CurvatureOptions
from tests.analytic.sums import dense_sum, perceptron

pytestmark = pytest.mark.slow

LAYERS = {"first": ["0.weight"], "second": ["2.weight"]}


def objective(rows: int = 45, **given: Any) -> Objective:
    """A perceptron of 83 parameters in float64, in ragged batches, some of whose rows count more, and some not."""
    source = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x = torch.randn(rows, 6, generator=source, dtype=torch.float64)
    y = torch.randint(3, (rows,), generator=source)
    given.setdefault("sample_weights", torch.arange(rows) % 4)
    return Objective(model, list(zip(x.split(16), y.split(16), strict=True)), **given)


def sweeps(operator: Any, count: int, seed: int = 0) -> Tensor:
    return operator.sweep(GroupProbes(torch.zeros(0, operator.dimension, dtype=torch.float64), seed, range(count)))


@pytest.mark.parametrize("operator", sorted(OPERATORS))
@pytest.mark.parametrize("micro_batch", [None, 1, 7])
def test_the_terms_add_up_to_the_operator(operator: str, micro_batch: int | None) -> None:
    found = OPERATORS[operator](objective(micro_batch=micro_batch))
    places = torch.arange(0, found.dimension, 12)
    unit = torch.eye(found.dimension, dtype=torch.float64)[places]
    expected = found.matmat(unit)[:, places].diagonal()
    whole = found.sweep(lambda _: unit)
    torch.testing.assert_close(whole[:, places].diagonal(), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(whole, unit * whole)
    parts = [found.sweep(lambda term, one=one: unit * (term == one)).sum(1) for one in range(found.terms)]
    torch.testing.assert_close(torch.stack(parts).sum(0), expected, rtol=1e-9, atol=1e-12)
    assert found.products == len(unit) * (found.terms + 2)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_groups_are_of_the_sample_not_of_micro_batches_plans_or_sweeps_at_once(operator: str) -> None:
    kind = OPERATORS[operator]
    expected = sweeps(kind(objective()), 5)
    for plan in kind.plans:
        for micro_batch in (None, 1, 3, 100):
            found = kind(objective(micro_batch=micro_batch), plan)
            torch.testing.assert_close(sweeps(found, 5), expected, rtol=1e-9, atol=1e-12)
            assert found.terms == 12
    single = kind(objective())
    probes = [GroupProbes(torch.zeros(0, single.dimension).double(), 0, range(i, i + 1)) for i in range(5)]
    torch.testing.assert_close(torch.cat([single.sweep(each) for each in probes]), expected, rtol=1e-12, atol=1e-15)
    assert torch.equal(sweeps(kind(objective()), 5), expected)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_a_sweep_that_runs_out_of_memory_keeps_its_groups(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, given = OPERATORS[operator], objective(rows=600)
    expected = sweeps(kind(given), 3)
    output = Objective.output

    def short_of_memory(self: Objective, batch: Any, point: Any = None) -> Any:
        if batch.rows > 5 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return output(self, batch, point)

    monkeypatch.setattr(Objective, "output", short_of_memory)
    found = kind(given)
    torch.testing.assert_close(sweeps(found, 3), expected, rtol=1e-9, atol=1e-12)
    assert found.terms == 19
    assert found.lowered[-1] == "micro-batches of 4 rows"
    torch.testing.assert_close(sweeps(found, 3), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 10])
def test_traces_are_unbiased_and_their_intervals_hold(steps: int) -> None:
    """Of the whole, of each layer, and scaled: 95 % of 200 seeds, each with its own error; and the mean of all."""
    operator = dense_sum(HessianOperator(objective(sample_weights=1 + torch.arange(45) % 4)))
    exact = operator.matrix.diagonal()
    scales = torch.linspace(0.5, 2, operator.dimension, dtype=torch.float64)
    krylov = Krylov(operator, 0)
    for _ in range(steps):
        krylov.step()
    truths = torch.stack([exact.sum(), exact[:48].sum(), exact[56:80].sum(), scales @ exact])
    errors, within = [], torch.zeros(4)
    for seed in range(200):
        traces = BlockTraces(krylov, [[slice(0, 48)], [slice(56, 80)]], scales)
        for products in operator.sweep(GroupProbes(traces.basis, seed, range(12))):
            traces.add_sweep(products)
        means = [traces.whole, *traces.blocks, traces.scaled]
        errors.append([mean.value for mean in means])
        intervals = torch.tensor([mean.interval(0.95) for mean in means])
        within += (intervals[:, 0] <= truths) & (truths <= intervals[:, 1])
    bias = torch.tensor(errors).double() - truths
    assert bool((bias.mean(0).abs() <= 3.5 * bias.std(0) / 200**0.5).all())
    assert within.min() >= 180, within


def test_the_trace_is_that_of_its_terms_whatever_the_micro_batches() -> None:
    dense = dense_sum(HessianOperator(perceptron(steps=150)))
    for given in (perceptron(steps=150), perceptron(steps=150).regrouped(5)):
        found, expected = (krylov_trace(each, relative_error=0.02, seed=3) for each in (HessianOperator(given), dense))
        assert found.value == pytest.approx(expected.value, rel=1e-9)
        assert found.products == expected.products


def test_the_variance_is_far_smaller_than_with_one_probe_for_all_rows() -> None:
    operator = HessianOperator(objective(rows=400))
    krylov = Krylov(operator, 0)
    for _ in range(4):
        krylov.step()
    traces, groups = BlockTraces(krylov), BlockTraces(krylov)
    for index in range(100):
        probe = rademacher(operator.dimension, 0, "probe", index)
        traces.add(probe, operator.matvec(probe))
    for products in operator.sweep(GroupProbes(groups.basis, 0, range(100))):
        groups.add_sweep(products)
    assert operator.terms == 25
    assert groups.whole.standard_error**2 < traces.whole.standard_error**2 / 4


REPORT = CurvatureOptions(
    top=1, bottom=1, max_products=12, trace_error=0.005, trace_probes=60, layer_eigenvalues="none", density_runs=2,
    density_steps=4,
)  # fmt: skip


def test_the_report_leaves_sweeps_out_where_they_are_as_noisy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of four rows of a random network are hardly alike: the pilot is all that it costs."""
    options = REPORT.model_copy(update={"trace_error": 0.1})
    monkeypatch.setattr(HessianOperator, "sweep", lambda *_: pytest.fail("a sweep"))
    found = measure_curvature(objective(), options, layers=LAYERS)
    monkeypatch.setattr(HessianOperator, "terms", 1)
    plain = measure_curvature(objective(), options, layers=LAYERS)
    assert found.trace == plain.trace
    assert found.products["trace"] == plain.products["trace"] + PILOT


def test_the_report_of_sweeps_holds_whole_and_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    given = perceptron(steps=150)
    matrix = as_dense(HessianOperator(given))
    found = measure_curvature(given, REPORT, layers=LAYERS)
    monkeypatch.setattr(HessianOperator, "terms", 1)
    plain = measure_curvature(given, REPORT, layers=LAYERS)
    assert found.trace.standard_error < 0.8 * plain.trace.standard_error
    truths = [float(matrix.trace()), float(matrix[:80, :80].trace()), float(matrix[90:130, 90:130].trace())]
    for estimate, truth in zip([found.trace, *(layer.trace for layer in found.layers)], truths, strict=True):
        assert abs(estimate.value - truth) <= 3 * estimate.standard_error
    rank = float(matrix.trace() ** 2 / matrix.square().sum())
    room = 0.5 * (found.effective_rank.upper - found.effective_rank.lower)
    assert found.effective_rank.lower - room <= rank <= found.effective_rank.upper + room


def test_sweeps_are_read_from_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoggedProducts.__init__, "__kwdefaults__", {"saved_every_s": 0.0})
    whole = measure_curvature(perceptron(steps=150), REPORT, layers=LAYERS, checkpoint=tmp_path)
    taken, plain = [], HessianOperator.sweep
    monkeypatch.setattr(HessianOperator, "sweep", lambda self, vectors: taken.append(0) or plain(self, vectors))
    again = measure_curvature(perceptron(steps=150), REPORT, layers=LAYERS, checkpoint=tmp_path)
    assert not taken
    sorted(tmp_path.rglob("*.safetensors"))[36].unlink()  # a sweep
    resumed = measure_curvature(perceptron(steps=150), REPORT, layers=LAYERS, checkpoint=tmp_path)
    assert taken
    for other in (again, resumed):
        assert other.model_dump(exclude={"elapsed_s"}) == whole.model_dump(exclude={"elapsed_s"})


def test_what_is_no_sum_over_rows_has_one_probe_for_all() -> None:
    assert terms_of(DenseOperator(torch.eye(3))) == 1
    assert terms_of(FiniteDifferenceOperator(objective())) == 1
    assert terms_of(LoggedProducts(HessianWay("finite-difference").operator(objective()), Path("none"))) == 1


def test_a_loss_between_rows_is_taken_apart_by_batches_only() -> None:
    between = objective(criterion=lambda output, target: (output @ output.T).square().mean(), sample_weights=None)
    found = HessianOperator(between)
    assert found.terms == 3
    unit = torch.eye(found.dimension, dtype=torch.float64)
    torch.testing.assert_close(found.sweep(lambda _: unit).diagonal(), as_dense(found).diagonal())
