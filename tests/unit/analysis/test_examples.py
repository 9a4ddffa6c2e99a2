"""The models that ship: what they reach, and that the script still makes them."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from quant_lens_engine.intake import EXAMPLE_MODELS, build_model, choose_architecture, example_path, open_checkpoint
from quant_lens_engine.intake.datasets.digits import HELD_OUT_ROWS, digits_split

SCRIPT = Path(__file__).parents[3] / "examples" / "train.py"
REACHED = {"digits-mlp": 0.96, "digits-cnn": 0.98, "digits-transformer": 0.97}


def test_the_split_shares_no_row():
    training, held_out = digits_split()
    assert len(held_out.x) == HELD_OUT_ROWS == 360
    assert len(training.x) + len(held_out.x) == 1797
    assert set(np.unique(held_out.y)) == set(range(10))
    known = {row.tobytes() for row in training.x}
    assert sum(row.tobytes() in known for row in held_out.x) == 0


@pytest.mark.parametrize("name", EXAMPLE_MODELS)
def test_examples_are_small_and_know_digits_that_they_have_not_seen(name):
    assert example_path(name).stat().st_size < 400_000
    checkpoint = open_checkpoint(example_path(name))
    model = build_model(checkpoint, choose_architecture(checkpoint, "auto"))
    held_out = digits_split()[1]
    with torch.no_grad():
        answers = model(torch.from_numpy(held_out.x)).argmax(1).numpy()
    assert (answers == held_out.y).mean() >= REACHED[name]


def test_the_script_trains_the_same_from_its_seed(monkeypatch):
    script = runpy.run_path(str(SCRIPT))
    monkeypatch.setitem(script["RECIPES"], "digits-mlp", (2, 3e-3, 1e-4))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first, second = script["train"]("digits-mlp"), script["train"]("digits-mlp")
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
