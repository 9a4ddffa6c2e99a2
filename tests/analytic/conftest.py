"""Small networks trained on scikit-learn's digits, and their exact Hessians."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call

from quant_lens_engine.intake import build_model, choose_architecture, example_path, open_checkpoint
from quant_lens_engine.objective import Objective

Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """Images ``(1797, 1, 8, 8)`` in 0 to 1, and labels."""
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def in_batches(x: Tensor, y: Tensor, size: int) -> Batches:
    return [(x[start : start + size], y[start : start + size]) for start in range(0, len(x), size)]


@pytest.fixture(scope="session")
def digits_batches(digits: tuple[Tensor, Tensor]) -> Batches:
    """301 rows in batches of 64: the last has 45."""
    x, y = digits
    return in_batches(x[-301:], y[-301:], 64)


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    source = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=source).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model.eval()


def example(name: str) -> nn.Module:
    checkpoint = open_checkpoint(example_path(name))
    return build_model(checkpoint, choose_architecture(checkpoint, name, {}), {}).eval()


@pytest.fixture(scope="session")
def digits_mlp() -> nn.Module:
    """The example that ships: 3 466 parameters."""
    return example("digits-mlp")


@pytest.fixture(scope="session")
def digits_cnn_example() -> nn.Module:
    """The example that ships: 3 842 parameters, too many convolutions for a dense Hessian in a quick test."""
    return example("digits-cnn")


@pytest.fixture(scope="session")
def digits_cnn(digits: tuple[Tensor, Tensor]) -> nn.Module:
    """Two strided convolutions with BatchNorm, and a head: 774 parameters."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3, stride=2, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    return train(model, digits[0][:1200], digits[1][:1200], 12)


def dense_hessian(objective: Objective, loss: Callable[[Any, Tensor], Tensor], chunk: int = 64) -> Tensor:
    """∇²L at the objective's point in float64, by vmapped double backward over all rows in one batch.

    An independent way: no micro-batches, no weights, none of the engine's operators.
    """
    model = objective.model.double()
    names = list(objective.point)
    shapes = [tensor.shape for tensor in objective.point.values()]
    flat = torch.cat([tensor.double().reshape(-1) for tensor in objective.point.values()]).requires_grad_()
    batches = objective.sample.batches
    x = torch.cat([batch.content[0] for batch in batches])
    y = torch.cat([batch.target for batch in batches])
    pieces = torch.split(flat, [shape.numel() for shape in shapes])
    point = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
    value = loss(functional_call(model, point, (x.double(),)), y)
    (gradient,) = torch.autograd.grad(value, flat, create_graph=True)
    rows = [
        torch.autograd.grad(gradient, flat, unit, is_grads_batched=True, retain_graph=True)[0]
        for unit in torch.eye(len(flat), dtype=torch.float64).split(chunk)
    ]
    model.float()
    return torch.cat(rows)


@pytest.fixture(scope="session")
def exact_hessian() -> Callable[..., Tensor]:
    return dense_hessian
