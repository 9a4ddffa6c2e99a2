"""A product that runs out of memory asks for less and goes on; the answer is the same."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from quant_lens_engine.curvature import HessianOperator, sample_operator, symmetric_operator
from quant_lens_engine.curvature.density import lanczos_density
from quant_lens_engine.curvature.hessian_products import HessianWay
from quant_lens_engine.curvature.krylov import exact_diagonal, products_with
from quant_lens_engine.curvature.krylov_trace import krylov_trace
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.row_groups import each_sweep
from quant_lens_engine.curvature.sample_operator import SampleOperator
from quant_lens_engine.objective import Objective

PROGRAM = """
import json, resource, sys
import torch
from torch import nn
from quant_lens_engine.curvature import HessianOperator
from quant_lens_engine.objective import Objective

torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 2000), nn.Tanh(), nn.Linear(2000, 3))
x, y = torch.randn(6000, 16), torch.randint(3, (6000,))
objective = Objective(model, [(x, y)])
vector = torch.ones(objective.dimension, dtype=torch.float64)
objective.select(torch.arange(64)).loss()  # everything that a first pass loads
HessianOperator(objective.select(torch.arange(64)), "reuse").matvec(vector)
if room := int(sys.argv[1]):
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + room, now + room))
operator = HessianOperator(objective, "reuse")
products = [operator.matvec(vector) for _ in range(2)]
print(json.dumps([operator.lowered, [float(p.norm()) for p in products], products[0][:50].tolist()]))
"""


def run(room: int) -> tuple[list[str], list[float], list[float]]:
    """In a process that may grow by ``room`` bytes; 0: without a limit."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(room)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lowered, norms, entries = json.loads(done.stdout)
    return lowered, norms, entries


@pytest.mark.slow
def test_a_hard_limit_gives_the_same_answer() -> None:
    free, short = run(0), run(150 * 2**20)
    assert free[0] == []
    assert short[0][0] == "graphs are not kept"
    assert any("rows" in words for words in short[0])
    assert short[1] == pytest.approx(free[1], rel=1e-6)
    assert short[2] == pytest.approx(free[2], rel=1e-4, abs=1e-6 * max(map(abs, free[2])))


@pytest.fixture
def small() -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return Objective(model, [(torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,)))])


@pytest.mark.parametrize("operator", sorted(OPERATORS))
@pytest.mark.parametrize(("budget", "given_up"), [(2**32, ["4 rows", "2 rows", "1 rows"]), (100, [])])
def test_products_go_on_with_fewer_vectors_at_a_time(
    operator: str, budget: int, given_up: list[str], small: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once where the vectors are what takes the memory, else after the rows."""
    vectors = torch.randn(7, small.dimension, dtype=torch.float64)
    free = products_with(OPERATORS[operator](small, "reuse"), vectors)
    whole = SampleOperator._whole_products

    def short_of_memory(self: SampleOperator, given: torch.Tensor) -> torch.Tensor:
        if len(given) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, given)

    monkeypatch.setattr(SampleOperator, "_whole_products", short_of_memory)
    monkeypatch.setattr(sample_operator, "most_bytes", lambda device: budget)
    short = OPERATORS[operator](small, "reuse")
    assert torch.allclose(products_with(short, vectors), free, rtol=1e-12, atol=1e-14)
    rows = [f"micro-batches of {words}" for words in given_up]
    assert short.lowered == ["graphs are not kept", *rows, "3 vectors at a time", "one vector at a time"]
    assert short.products == 7


def test_what_is_drawn_and_multiplied_fits_the_memory_and_changes_no_digit(
    small: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    taken, swept = SampleOperator._whole_products, SampleOperator._whole_sweep

    def counted(self: SampleOperator, vectors: torch.Tensor) -> torch.Tensor:
        counts.append(len(vectors))
        return taken(self, vectors)

    def counted_sweep(self: SampleOperator, vectors: Callable[[int], torch.Tensor]) -> torch.Tensor:
        counts.append(-len(vectors(0)))
        return swept(self, vectors)

    monkeypatch.setattr(SampleOperator, "_whole_products", counted)
    monkeypatch.setattr(SampleOperator, "_whole_sweep", counted_sweep)

    def measured() -> list[float]:
        operator = HessianOperator(small, "reuse")
        found = lanczos_density(operator, runs=5, steps=6, seed=0)
        trace = krylov_trace(operator, relative_error=0.01, max_products=60, seed=0)
        diagonal, squares = exact_diagonal(operator)
        basis = torch.zeros((0, small.dimension), dtype=torch.float64)
        sweeps = torch.stack(list(each_sweep(operator, basis, 0, range(7)))).sum(1)
        return [*found.y, trace.value, trace.standard_error, *sweeps.tolist(), *diagonal.tolist(), squares]

    free, together = measured(), list(counts)
    counts.clear()
    monkeypatch.setattr(symmetric_operator, "most_bytes", lambda device: 2 * 24 * small.dimension)
    assert measured() == pytest.approx(free, rel=1e-9, abs=1e-13)
    assert (max(together), -min(together)) == (8, 7)
    assert (max(counts), -min(counts)) == (2, 2)


def fail_above(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes over more rows fail as an allocator does."""
    output = Objective.output

    def short_of_memory(self: Objective, batch, point=None):
        if batch.rows > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return output(self, batch, point)

    monkeypatch.setattr(Objective, "output", short_of_memory)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_every_operator_goes_on_with_fewer_rows(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    batches = [(torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,)))]
    objective = Objective(model, batches)
    vector = torch.randn(objective.dimension, dtype=torch.float64)
    expected = OPERATORS[operator](objective, "reuse").matvec(vector)
    fail_above(3, monkeypatch)
    found = OPERATORS[operator](objective, "reuse")
    torch.testing.assert_close(found.matvec(vector), expected, rtol=1e-10, atol=1e-12)
    assert found.lowered == ["graphs are not kept", "micro-batches of 4 rows", "micro-batches of 2 rows"]


@pytest.mark.parametrize("plan", ["forward-over-reverse", "finite-difference"])
def test_the_other_ways_ask_for_less_too(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    objective = Objective(model, [(torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,)))])
    vectors = torch.randn(5, objective.dimension, dtype=torch.float64)
    expected = HessianOperator(objective).matmat(vectors)
    fail_above(4, monkeypatch)
    operator = HessianWay(plan).operator(objective)
    torch.testing.assert_close(products_with(operator, vectors), expected, rtol=1e-6, atol=1e-7)
    halved = [f"{width} directions at a time" for width in (4, 2, 1)] if plan == "forward-over-reverse" else []
    assert operator.lowered == [*halved, "micro-batches of 4 rows"]


def test_one_row_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(nn.Linear(2, 2), [(torch.ones(3, 2), torch.tensor([0, 1, 0]))])

    def never(self: Objective, batch, point=None):
        raise MemoryError

    monkeypatch.setattr(Objective, "output", never)
    with pytest.raises(MemoryError):
        HessianOperator(objective, "fresh").matvec(torch.ones(6, dtype=torch.float64))
