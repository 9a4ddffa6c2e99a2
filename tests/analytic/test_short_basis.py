"""Where there is memory for few basis vectors: traces and densities stay what they are."""

import numpy as np
import pytest
import torch

from quant_lens_engine.curvature import basis_room
from quant_lens_engine.curvature.dense import DenseOperator
from quant_lens_engine.curvature.density import lanczos_density
from quant_lens_engine.curvature.krylov_trace import krylov_trace

DIMENSION = 300


def matrix(seed: int = 0) -> torch.Tensor:
    """A spectrum with a few large values, as that of a network."""
    torch.manual_seed(seed)
    values = torch.cat([torch.linspace(-0.2, 0.8, DIMENSION - 4), torch.tensor([3.0, 5.0, 8.0, 20.0])]).double()
    vectors = torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, dtype=torch.float64))[0]
    return vectors @ torch.diag(values) @ vectors.T


@pytest.fixture(params=[3, 7, 11, 40])
def short(request, monkeypatch):
    monkeypatch.setattr("quant_lens_engine.curvature.basis_room.most_bytes", lambda _: request.param * 8 * DIMENSION)
    return request.param


def test_a_trace_comes_to_its_end_and_holds(short: int) -> None:
    exact, outside = float(matrix().trace()), 0
    for seed in range(20):
        found = krylov_trace(DenseOperator(matrix()), relative_error=0.05, max_products=400, seed=seed)
        assert found.products <= 400
        outside += abs(found.value - exact) > 2 * found.standard_error
    assert outside <= 4


def test_a_density_has_the_mean_of_the_spectrum(short: int) -> None:
    exact = float(matrix().trace()) / DIMENSION
    means = []
    for seed in range(12):
        found = lanczos_density(DenseOperator(matrix()), steps=12, seed=seed)
        means.append(float(found.weights @ found.nodes))
    assert np.mean(means) == pytest.approx(exact, abs=4 * np.std(means) / 12**0.5 + 1e-9)
    assert np.mean(means) == pytest.approx(exact, rel=0.5)


@pytest.mark.parametrize("said", [None, "max", "folder", "1000000"])
def test_a_limit_of_the_group_is_heard_and_what_cannot_be_read_is_none(said, tmp_path, monkeypatch) -> None:
    """Behind the sandbox's walls the file may be out of sight."""
    path = tmp_path / "memory.max"
    if said == "folder":
        path.mkdir()
    elif said is not None:
        path.write_text(f"{said}\n")
    monkeypatch.setattr(basis_room, "_CGROUP", path)
    found = basis_room._memory_bytes.__wrapped__(torch.device("cpu"))
    assert found == 1_000_000 if said == "1000000" else found > 2**30
