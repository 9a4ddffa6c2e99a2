"""Checkpoints and data files as people and attackers write them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

ASSETS = Path(os.environ.get("QUANT_LENS_ASSETS", Path(__file__).parents[4] / "shared" / "assets"))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """The state dict of a small digits-mlp."""
    torch.manual_seed(0)
    return {
        "hidden1.weight": torch.randn(8, 64), "hidden1.bias": torch.randn(8), "hidden2.weight": torch.randn(6, 8),
        "hidden2.bias": torch.randn(6), "classifier.weight": torch.randn(10, 6), "classifier.bias": torch.randn(10),
    }  # fmt: skip


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Twelve rows that a digits-mlp takes, with labels."""
    generator = np.random.default_rng(0)
    return generator.random((12, 1, 8, 8)).astype(np.float32), np.arange(12) % 10


@pytest.fixture
def assets() -> Path:
    """Public checkpoints and test sets, where they are."""
    if not ASSETS.is_dir():
        pytest.skip("the public checkpoints are not here: set QUANT_LENS_ASSETS to run this")
    return ASSETS
