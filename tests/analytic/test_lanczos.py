"""Lanczos on operators whose spectrum is known: values, multiplicity, and intervals that hold what they promise."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.curvature import top_eigenvalues
from quant_lens_engine.curvature.dense import DenseOperator
from quant_lens_engine.curvature.interval import upper_bound
from quant_lens_engine.curvature.krylov import Krylov
from quant_lens_engine.curvature.lanczos import extreme_spectrum


def symmetric(eigenvalues: Tensor, seed: int = 0) -> DenseOperator:
    """A matrix with these eigenvalues and random eigenvectors."""
    n = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
    matrix = basis @ torch.diag(eigenvalues.double()) @ basis.T
    return DenseOperator((matrix + matrix.T) / 2)


def network_like(n: int, seed: int) -> Tensor:
    """A few large eigenvalues, a bulk near zero, and a negative end: what loss Hessians look like."""
    source = np.random.default_rng(seed)
    outliers = np.sort(source.lognormal(1.5, 1.0, 8))
    bulk = source.laplace(0, 0.02, n - 8)
    return torch.from_numpy(np.concatenate([outliers, bulk]))


@pytest.mark.parametrize("seed", range(10))
def test_both_ends_reach_the_tolerance(seed: int) -> None:
    eigenvalues = network_like(400, seed)
    found = extreme_spectrum(symmetric(eigenvalues, seed), tolerance=1e-4, max_products=200, seed=seed)
    assert found.converged
    assert found.highest.value == pytest.approx(float(eigenvalues.max()), rel=1e-4)
    assert found.lowest.value == pytest.approx(float(eigenvalues.min()), rel=1e-4, abs=1e-6 * float(eigenvalues.max()))


def test_the_largest_algebraic_value_is_not_the_largest_magnitude() -> None:
    for seed in range(3):
        found = extreme_spectrum(DenseOperator(torch.diag(torch.tensor([5.0, 1.0, -5.0]))), seed=seed)
        assert (found.highest.value, found.lowest.value) == pytest.approx((5, -5), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 6, 10, 16])
def test_the_interval_covers_at_its_confidence(steps: int) -> None:
    """At any step, converged or not, λmax lies in [θ, bound] at least as often as stated."""
    trials, confidence, outside = 300, 0.9, 0
    for seed in range(trials):
        eigenvalues = network_like(60, seed)
        krylov = Krylov(symmetric(eigenvalues, seed), seed)
        for _ in range(steps):
            krylov.step()
        highest, lowest = krylov.bounds(krylov.ritz(), confidence)
        assert highest.value <= float(eigenvalues.max()) + 1e-9, "a Ritz value is a lower bound of λmax"
        assert lowest.value >= float(eigenvalues.min()) - 1e-9
        outside += highest.beyond < float(eigenvalues.max()) - 1e-9
    allowed = trials * (1 - confidence)
    assert outside <= allowed + 3 * (allowed * confidence) ** 0.5


def test_the_bound_is_not_idle() -> None:
    """Somewhere the interval does miss: a bound that never fails would be too wide to stop by."""
    missed, widths = 0, []
    for seed in range(400):
        eigenvalues = torch.cat([torch.zeros(40), torch.linspace(0.5, 1.0, 20)])
        krylov = Krylov(symmetric(eigenvalues, seed), seed)
        for _ in range(5):
            krylov.step()
        highest, _ = krylov.bounds(krylov.ritz(), 0.6)
        missed += highest.beyond < 1.0 - 1e-9
        widths.append(highest.width)
    assert missed > 0
    assert np.median(widths) < 0.5


def stop_by_residual(operator: DenseOperator, tolerance: float, seed: int) -> float:
    """The usual rule, min(residual, residual²/gap) < tolerance · θ: what the interval replaces."""
    krylov = Krylov(operator, seed)
    krylov.step()
    while not krylov.full:
        krylov.step()
        ritz = krylov.ritz()
        residual, gap = ritz.residuals[-1], ritz.values[-1] - ritz.values[-2]
        if min(residual, residual**2 / gap) < tolerance * ritz.values[-1]:
            break
    return float(krylov.ritz().values[-1])


def test_the_stop_is_not_fooled_by_an_inner_eigenvalue() -> None:
    """A small residual says that some eigenvalue is near; the bound says that no larger one was missed."""
    trials, fooled, fooled_by_residual = 60, 0, 0
    bulk = 0.1 * torch.randn(198, generator=torch.Generator().manual_seed(0))
    eigenvalues = torch.cat([torch.tensor([2.257, 2.11]), bulk])
    for seed in range(trials):
        operator = symmetric(eigenvalues, seed)
        found = extreme_spectrum(operator, tolerance=1e-3, bottom=0, seed=seed)
        fooled += abs(found.highest.value - 2.257) > 2.257e-3
        fooled_by_residual += abs(stop_by_residual(operator, 1e-3, seed) - 2.257) > 2.257e-3
    assert fooled_by_residual > trials / 4, "the trap must be one"
    assert fooled <= 0.05 * trials


def test_values_with_multiplicity() -> None:
    eigenvalues = torch.cat([torch.tensor([7.0, 7.0, 7.0, 4.0, 4.0, 2.5]), torch.linspace(-1, 1, 194)])
    found = extreme_spectrum(symmetric(eigenvalues), top=6, tolerance=1e-6, max_products=400)
    assert found.converged
    assert found.top.values == pytest.approx([7, 7, 7, 4, 4, 2.5], rel=1e-5)
    overlaps = found.top.vectors @ found.top.vectors.T
    assert torch.allclose(overlaps, torch.eye(6, dtype=torch.float64), atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_top_values_of_a_network_like_spectrum(seed: int) -> None:
    eigenvalues = network_like(300, seed)
    found = extreme_spectrum(symmetric(eigenvalues, seed), top=5, bottom=0, tolerance=1e-4, max_products=300)
    expected = eigenvalues.sort(descending=True).values[:5]
    assert found.converged
    assert found.top.values == pytest.approx(expected.tolist(), rel=2e-4)


def test_identity() -> None:
    found = extreme_spectrum(DenseOperator(torch.eye(50) * 3), top=4, max_products=50)
    assert found.converged
    assert found.top.values == pytest.approx([3, 3, 3, 3])
    assert (found.highest.beyond, found.lowest.beyond) == pytest.approx((3, 3))


def test_zero_operator() -> None:
    found = extreme_spectrum(DenseOperator(torch.zeros(30, 30)), top=3)
    assert found.converged
    assert found.top.values == [0, 0, 0]
    assert found.highest == (0, 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_rank_one(sign: int) -> None:
    u = torch.randn(80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = extreme_spectrum(DenseOperator(sign * torch.outer(u, u)), max_products=80)
    ends = sorted([0.0, sign * float(u @ u)])
    assert found.converged
    assert found.products <= 4
    assert (found.lowest.value, found.highest.value) == pytest.approx(
        tuple(ends), rel=1e-10, abs=1e-10 * abs(ends[0] + ends[1])
    )


def test_dimension_one() -> None:
    found = extreme_spectrum(DenseOperator(torch.tensor([[-4.0]])), top=3)
    assert found.converged
    assert (found.top.values, found.highest.value, found.lowest.value) == ([-4.0], -4.0, -4.0)


def test_a_dimension_below_the_step_limit_is_solved_exactly() -> None:
    eigenvalues = torch.tensor([-3.0, -1.0, 0.5, 2.0, 9.0])
    found = extreme_spectrum(symmetric(eigenvalues), top=5, max_products=50)
    assert found.converged
    assert found.products == 5
    assert found.top.values == pytest.approx([9, 2, 0.5, -1, -3], rel=1e-10)


def test_too_few_products_are_said_and_bounded() -> None:
    eigenvalues = torch.linspace(-1, 1, 500)
    found = extreme_spectrum(symmetric(eigenvalues), tolerance=1e-8, max_products=10)
    assert not found.converged
    assert found.products == 10
    assert found.highest.value < 1 < found.highest.beyond


def test_single_precision_products_widen_the_interval() -> None:
    class Rounded(DenseOperator):
        def matvec(self, vector: Tensor) -> Tensor:
            self.products += 1
            return (self.matrix.float() @ vector.float()).double()

    eigenvalues = network_like(500, 3)
    exact = symmetric(eigenvalues, 3)
    found = extreme_spectrum(Rounded(exact.matrix), tolerance=1e-4, max_products=200)
    largest = float(eigenvalues.max())
    assert found.converged
    assert 1e-9 * largest < found.rounding < 1e-5 * largest
    assert found.highest.value - found.rounding * 3 <= largest <= found.highest.beyond + found.rounding * 3


def test_equal_seeds_give_equal_digits() -> None:
    operator = symmetric(network_like(200, 0))
    one, two = (extreme_spectrum(operator, top=2, seed=4) for _ in range(2))
    assert (one.top.values, one.lowest, one.products) == (two.top.values, two.lowest, two.products)


def test_the_bound_shrinks_to_the_ritz_value() -> None:
    ritz = np.array([0.1, 1.0, 4.0])
    widths = [upper_bound(ritz, np.array([1.0, 1.0, beta]), 1000, 0.95) - 4 for beta in (1.0, 1e-2, 1e-4, 0.0)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 0


def close_pair(seed: int) -> Tensor:
    return torch.cat([torch.tensor([2.0, 2.0 - 10.0 ** -(1 + seed % 5)]), 0.5 * torch.rand(58)])


def clustered(seed: int) -> Tensor:
    return torch.cat([3 + 0.01 * torch.rand(8), torch.rand(52)])


def indefinite(seed: int) -> Tensor:
    return torch.cat([torch.tensor([-4.0, 4.0, -3.9]), torch.randn(57)])


def repeated(seed: int) -> Tensor:
    return torch.cat([torch.full((3,), 2.0), torch.full((2,), -1.0), 0.3 * torch.rand(55)])


def crowded(seed: int) -> Tensor:
    """Eight of its largest within 0.05: searches find what the first process has missed."""
    return torch.cat([3 + 0.05 * torch.rand(8), 0.3 * torch.randn(112)])


KINDS = [close_pair, clustered, indefinite, repeated, crowded, lambda seed: network_like(60, seed)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_of_both_ends_hold_at_their_confidence(kind: Callable[[int], Tensor]) -> None:
    """Sixty random operators of each kind: of the three largest and the two smallest, every interval."""
    trials, confidence, outside = 60, 0.9, 0
    for seed in range(trials):
        torch.manual_seed(seed)
        eigenvalues = kind(seed).double().sort().values
        found = extreme_spectrum(
            symmetric(eigenvalues, seed), top=3, bottom=2, tolerance=1e-3, confidence=confidence, seed=seed
        )
        slack = 1e-10 * float(eigenvalues.abs().max())
        held = True
        for end, exact in ((found.top, eigenvalues.flip(0)), (found.bottom, eigenvalues)):
            for index in range(end.wanted):
                ends = sorted((end.values[index], end.beyond(index)))
                held &= ends[0] - slack <= float(exact[index]) <= ends[1] + slack
        outside += not held
    allowed = trials * (1 - confidence)
    assert outside <= allowed + 3 * (allowed * confidence) ** 0.5


@pytest.mark.slow
def test_no_value_that_a_search_has_added_is_above_its_eigenvalue() -> None:
    """The near end of an interval is the Ritz value itself, certainly and not with a probability."""
    added = 0
    for seed in range(60):
        torch.manual_seed(seed)
        eigenvalues = crowded(seed).double().sort(descending=True).values
        found = extreme_spectrum(symmetric(eigenvalues, seed), top=5, tolerance=1e-3, max_products=1000, seed=seed)
        added += bool(found.finders)
        assert all(value <= float(exact) + 1e-12 for value, exact in zip(found.top.values, eigenvalues, strict=False))
    assert added > 20


def test_the_rounding_of_products_is_in_the_interval() -> None:
    """Deep networks in single precision: their forward pass rounds, which leaves products symmetric."""
    for seed in range(3):
        torch.manual_seed(seed)
        layers = [part for _ in range(3) for part in (nn.Linear(20, 20), nn.GELU())]
        model, x = nn.Sequential(*layers, nn.Linear(20, 3)), 3 * torch.randn(257, 20)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2.5)
        data = [(x, torch.randint(3, (257,)))]
        single = top_eigenvalues(model, data, k=3, tol=1e-4, seed=seed)
        double = top_eigenvalues(model, data, k=3, tol=1e-9, seed=seed, dtype="float64")
        assert double.converged
        assert np.all(single.lower <= double.values)
        assert np.all(double.values <= single.upper)


@pytest.mark.parametrize("limit", [16, 24])
def test_a_short_basis_restarts_and_finds_the_same(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory for ``limit`` vectors only: residuals decide, and a deflated process bounds what is beyond."""
    eigenvalues = torch.cat([torch.linspace(-1, 1, 197, dtype=torch.float64), torch.tensor([1.03, 1.06, 1.2])])
    operator = symmetric(eigenvalues, 2)
    monkeypatch.setattr("quant_lens_engine.curvature.basis_room.most_bytes", lambda _: limit * 8 * 200)
    found = extreme_spectrum(operator, top=2, bottom=0, tolerance=1e-5, max_products=1000)
    assert found.first.restarts > 0
    assert found.first.basis.shape[0] <= limit
    assert found.top.values == pytest.approx([1.2, 1.06], rel=1e-5)


@pytest.mark.parametrize("distinct", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_both_ends_of_few_different_eigenvalues(distinct: int, seed: int) -> None:
    """One process sees each value once: then the same vectors stand in both ends, and are left out once."""
    torch.manual_seed(seed)
    values = torch.randn(distinct, dtype=torch.float64)
    eigenvalues = torch.cat([values, values[torch.randint(distinct, (12 - distinct,))]]).sort().values
    found = extreme_spectrum(symmetric(eigenvalues, seed), top=5, bottom=5, tolerance=1e-6, seed=seed)
    assert found.converged
    assert found.top.values == pytest.approx(eigenvalues.flip(0)[:5].tolist(), rel=1e-9, abs=1e-9)
    assert found.bottom.values == pytest.approx(eigenvalues[:5].tolist(), rel=1e-9, abs=1e-9)
