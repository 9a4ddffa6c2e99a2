"""A variant that starts from the float model's spectrum: the same answer, from fewer products."""

from functools import cache

import pytest
import torch

from quant_lens_engine.curvature.davidson import NEAR, Davidson, Start, is_near
from quant_lens_engine.curvature.dense import DenseOperator
from quant_lens_engine.curvature.krylov import Krylov
from quant_lens_engine.curvature.lanczos import Spectrum, extreme_spectrum

N = 400


def spectrum(noise: float, seed: int) -> DenseOperator:
    """A network-like matrix; with ``noise``, one near it."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(N, N, generator=generator, dtype=torch.float64))[0]
    outliers = torch.exp(torch.randn(10, generator=generator, dtype=torch.float64)) * 3
    bulk = 0.05 * torch.randn(N - 10, generator=generator, dtype=torch.float64)
    matrix = turn @ torch.diag(torch.cat([outliers, bulk])) @ turn.T
    other = torch.randn(N, N, generator=generator, dtype=torch.float64) / N**0.5
    return DenseOperator(matrix + noise * (other + other.T) / 2)


ASKED = {"top": 5, "bottom": 5, "tolerance": 1e-4, "inner_tolerance": 1e-3, "max_products": 1000}


@cache
def start(seed: int) -> Start:
    found = extreme_spectrum(spectrum(0.0, seed), **ASKED)
    assert isinstance(found.first, Krylov)
    return Start.of("FP32", found.first)


def both(noise: float, seed: int) -> tuple[Spectrum, Spectrum, torch.Tensor]:
    operator = spectrum(noise, seed)
    cold = extreme_spectrum(operator, **ASKED)
    warm = extreme_spectrum(operator, start=start(seed), **ASKED)
    return cold, warm, torch.linalg.eigvalsh(operator.matrix)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.0, 1e-3, 3e-2, 1.0])
def test_no_eigenvalue_is_missed_however_near_the_start_is(noise: float, seed: int) -> None:
    _, warm, exact = both(noise, seed)
    assert warm.converged
    assert warm.top.values == pytest.approx(exact.flip(0)[:5].tolist(), rel=1e-3)
    assert warm.bottom.values[0] == pytest.approx(float(exact[0]), rel=1e-3)
    for index in range(5):  # of the smallest, which lie close together, the inner ones are as near as they say
        assert warm.top.values[index] - 1e-9 <= float(exact[-1 - index]) <= warm.top.beyond(index) + 1e-9
        assert warm.bottom.values[index] + 1e-9 >= float(exact[index]) >= warm.bottom.beyond(index) - 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_a_near_operator_takes_fewer_products(seed: int) -> None:
    cold, warm, _ = both(1e-3, seed)
    assert warm.products <= 0.65 * cold.products


def test_a_start_that_lacks_the_largest_eigenvector_finds_it() -> None:
    known = start(0)
    lacking = Start("FP32", known.values[:-1], known.vectors[:-1])
    operator = spectrum(0.0, 0)
    found = extreme_spectrum(operator, start=lacking, **ASKED)
    assert found.converged
    assert found.top.values == pytest.approx(torch.linalg.eigvalsh(operator.matrix).flip(0)[:5].tolist(), rel=1e-3)


def test_the_space_is_orthonormal_and_its_matrix_the_projection() -> None:
    operator = spectrum(3e-2, 1)
    process = Davidson(operator, start(1), (5, 5), seed=0)
    for _ in range(25):
        process.step()
    basis = process.basis
    assert torch.allclose(basis @ basis.T, torch.eye(25, dtype=torch.float64), atol=1e-12)
    projected = basis @ operator.matrix @ basis.T
    assert torch.allclose(torch.from_numpy(process.projected), projected, atol=1e-12)
    images = operator.matrix @ basis.T
    rest = images - basis.T @ projected
    assert process.outside_squares == pytest.approx(float(rest.square().sum()), rel=1e-9)
    assert torch.allclose(process.outside_diagonal(), (rest * basis.T).sum(1), atol=1e-12)


def test_how_near_is_near() -> None:
    point = torch.ones(100, dtype=torch.float64)
    assert is_near(point * (1 + 0.9 * NEAR), point)
    assert not is_near(point * (1 + 1.1 * NEAR), point)
