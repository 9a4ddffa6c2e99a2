"""A small trained network with its data, and one analysis of it that many tests read."""

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine import QuantDiagnostic
from quant_lens_engine.schema import RunResult

Batches = list[tuple[Tensor, Tensor]]


def blobs(rows: int = 90) -> tuple[Tensor, Tensor]:
    """Three overlapping clouds in five dimensions."""
    generator = torch.Generator().manual_seed(3)
    centres = 1.5 * torch.randn(3, 5, generator=generator)
    labels = torch.arange(rows) % 3
    return centres[labels] + torch.randn(rows, 5, generator=generator), labels


@pytest.fixture(scope="session")
def batches() -> Batches:
    """A ragged last batch."""
    x, y = blobs()
    return [(x[:40], y[:40]), (x[40:80], y[40:80]), (x[80:], y[80:])]


@pytest.fixture(scope="session")
def trained() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 3))
        x, y = blobs()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def diagnostic(trained: nn.Module, batches: Batches) -> QuantDiagnostic:
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_int8_model()
    diagnostic.add_int8_model(num_bits=4)
    diagnostic.add_variant("int2")
    diagnostic.run_analysis(landscape_steps=6, directions=2)
    return diagnostic


@pytest.fixture(scope="session")
def result(diagnostic: QuantDiagnostic) -> RunResult:
    return diagnostic.result
