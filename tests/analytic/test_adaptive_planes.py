"""Adaptive planes: what is estimated is marked, its stated error covers the true one, and a gap stays a gap."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.landscape import Surroundings, basin_rise
from quant_lens_engine.landscape.adaptive import SAFETY, adaptive_row
from quant_lens_engine.landscape.plane_frame import plane_frame
from quant_lens_engine.landscape.planes import Adaptive, measure_rows, smooth_places
from quant_lens_engine.landscape.readings import Reader
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema import Plane, PlaneOptions, join_pieces
from tests.analytic.conftest import example

pytestmark = pytest.mark.slow

RANDOM = ("random:1", "random:2")


class Residual(nn.Module):
    """A residual network in small: two blocks with BatchNorm, average pooling, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)), nn.Linear(8, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 8, 3, padding=1),
                nn.BatchNorm2d(8),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return self.head(x.mean((2, 3)))


def residual(digits: tuple[Tensor, Tensor]) -> nn.Module:
    torch.manual_seed(0)
    x, y = digits
    model = Residual()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(40):
        rows = slice(64 * (step % 5), 64 * (step % 5 + 1))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model.eval()


def planes_of(
    network: Objective, steps: int, tolerance: float, names: tuple[str, str] = RANDOM, variant: str = ""
) -> tuple[Plane, Plane]:
    """In full, and from fewer points."""
    variants = {name: quantize(network.model, name) for name in ("int4", "int2")}
    around = Surroundings(network, point_of=lambda name: variants[name].point)
    frame = plane_frame(around, names, PlaneOptions(steps=steps), Reader(SILENT, "", 1))
    own = variants[variant].smooth(network) if variant else network
    at = smooth_places(frame, own, network.point if frame.joins else own.point)
    scale = basin_rise(network.loss())
    full, fewer = (
        join_pieces([
            measure_rows(frame, at, [row], landscape="smooth", reader=Reader(SILENT, "", 1), adaptive=adaptive)
            for row in range(steps)
        ])
        for adaptive in (None, Adaptive(tolerance, scale))
    )  # fmt: skip
    assert full.estimated is None
    assert full.estimates == ""
    return full, fewer


@pytest.mark.parametrize(
    ("model", "shape", "rows", "steps", "names", "variant", "tolerance"),
    [
        ("digits-mlp", (64,), 60, 41, RANDOM, "", 0.15),
        ("digits-mlp", (64,), 60, 41, ("to:int4", "to:int2"), "", 0.045),
        ("digits-mlp", (64,), 60, 41, RANDOM, "int4", 0.045),
        ("digits-cnn", (1, 8, 8), 30, 31, RANDOM, "int2", 0.15),
        ("digits-transformer", (1, 8, 8), 8, 21, RANDOM, "", 0.15),
        ("residual", (1, 8, 8), 60, 25, RANDOM, "int4", 0.15),
    ],
)
def test_the_stated_error_covers_the_true_one(
    model: str, shape: tuple[int, ...], rows: int, steps: int, names: tuple[str, str], variant: str, tolerance: float,
    digits: tuple[Tensor, Tensor],
) -> None:  # fmt: skip
    x, y = digits
    network = Objective(
        residual(digits) if model == "residual" else example(model), [(x[:rows].reshape(-1, *shape), y[:rows])]
    )
    full, fewer = planes_of(network, steps, tolerance, names, variant)
    assert fewer.estimated is not None
    marked, exact, found = np.array(fewer.estimated), np.array(full.loss), np.array(fewer.loss)
    assert marked.mean() > 0.05
    assert (found[~marked] == exact[~marked]).all(), "what is measured is measured, digit for digit"
    assert not marked[steps // 2, steps // 2], "the origin is"
    true = np.abs(found - exact) / np.maximum(np.abs(exact), basin_rise(network.loss()))
    assert fewer.estimate_error is not None
    assert true.max() <= fewer.estimate_error <= tolerance
    assert fewer.estimates.startswith(f"{marked.sum()} of {steps**2} points are interpolated")
    assert fewer.accuracy is not None
    assert full.accuracy is not None
    for row, marks, measured in zip(fewer.accuracy, fewer.estimated, full.accuracy, strict=True):
        assert row == [None if mark else value for mark, value in zip(marks, measured, strict=True)]


def asked_of(curve: np.ndarray, tolerance: float = 0.15) -> tuple[list[int], object]:
    asked: list[int] = []

    def measure(column: int) -> float:
        asked.append(column)
        return float(curve[column])

    row = adaptive_row(measure, len(curve), tolerance=tolerance, scale=0.1)
    assert len(asked) == len(set(asked)), "each point is measured once"
    assert row.measured == set(asked)
    return asked, row


def test_a_parabola_needs_few_points_and_the_last_one_is_not_in_the_curve() -> None:
    """Where the last one asked for lies otherwise, no estimate moves."""
    x = np.linspace(-1, 1, 41)
    asked, row = asked_of(0.3 + x**2)
    assert len(asked) == 18
    assert max(abs(np.array(row.losses) - (0.3 + x**2)) / (0.3 + x**2)) <= row.error
    bent = 0.3 + x**2
    bent[asked[-1]] *= 1.001
    again, other = asked_of(bent)
    assert again == asked
    beside = [column for column in range(41) if column not in row.measured]
    assert [other.losses[c] for c in beside] == [row.losses[c] for c in beside]
    assert other.losses[asked[-1]] == bent[asked[-1]]


def test_a_check_that_fails_is_measured_around() -> None:
    x = np.linspace(-1, 1, 41)
    kinked = 0.3 + np.abs(x - 0.33)
    asked, row = asked_of(kinked)
    assert {26, 27, 28} <= set(asked), "the kink"
    assert np.abs(np.array(row.losses) / kinked - 1).max() <= row.error <= 0.15
    noise = np.exp(np.random.default_rng(0).normal(size=41))
    assert len(asked_of(noise)[0]) >= 39
    assert row.error / SAFETY <= 0.05


@pytest.mark.parametrize("gap", [range(33, 41), range(3), range(20, 21), range(15, 16)])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gap_that_was_met_is_never_interpolated_over(gap: range, value: float) -> None:
    curve = 0.3 + np.linspace(-1, 1, 41) ** 2
    curve[list(gap)] = value
    asked, row = asked_of(curve)
    assert sorted(asked) == list(range(41)), "a row with a gap that was met is measured in full"
    assert np.array_equal(row.losses, curve, equal_nan=True)
    assert row.checks == row.error == 0


def test_a_plane_with_gaps_keeps_them() -> None:
    class Explosive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([[0.5, -0.2]]))

        def forward(self, x: Tensor) -> Tensor:
            return torch.exp(x @ self.weight.T) * 10

    network = Objective(Explosive(), [(40 * torch.eye(2), torch.ones(2, 1))], task="regression")
    frame = plane_frame(Surroundings(network), RANDOM, PlaneOptions(steps=21, distance=4), Reader(SILENT, "", 1))
    at = smooth_places(frame, network, network.point)
    full, fewer = (
        measure_rows(frame, at, range(21), landscape="smooth", reader=Reader(SILENT, "", 1), adaptive=adaptive)
        for adaptive in (None, Adaptive(0.15, 1.0))
    )
    gaps = [[loss is None for loss in row] for row in full.loss]
    assert [[loss is None for loss in row] for row in fewer.loss] == gaps
    assert any(map(any, gaps))
    assert fewer.reason == full.reason
