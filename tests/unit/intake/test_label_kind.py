"""Which task labels suggest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quant_lens_engine.intake.label_kind import task_of_labels

PIXELS, TOKENS, NUMBERS = ((4, 3, 8, 6), "f4"), ((4, 9), "i8"), ((4, 9), "f4")
BITS = np.eye(4, 9, dtype=np.int64)


@pytest.mark.parametrize(
    ("x", "y", "task"),
    [
        (PIXELS, np.arange(4), "classification"),
        (PIXELS, np.arange(4.0), "classification"),
        (PIXELS, np.arange(4).reshape(4, 1), "classification"),
        (PIXELS, np.zeros((4, 8, 6), np.int64), "segmentation"),
        (((4, 8, 6, 3), "u1"), np.full((4, 8, 6), 255, np.uint8), "segmentation"),
        (PIXELS, np.zeros((4, 8, 7), np.int64), None),
        (TOKENS, np.zeros((4, 9), np.int64), "token-classification"),
        (NUMBERS, BITS[:, :5], "multi-label"),
        (NUMBERS, BITS, "multi-label"),
        (NUMBERS, BITS[:, :5].astype(np.float32), "multi-label"),
        (NUMBERS, np.linspace(0, 1, 4), "regression"),
        (NUMBERS, np.full((4, 2), 0.5), "regression"),
        (NUMBERS, np.full((4, 2), 3.0), "regression"),
        (NUMBERS, np.asarray([0.0, 1.0, np.nan, 2.0]), "regression"),
        (NUMBERS, np.arange(3), None),
        (NUMBERS, None, "self-distillation"),
    ],
)
def test_the_task_follows_from_shape_and_kind(x: Any, y: Any, task: str | None) -> None:
    shape, dtype = x
    assert task_of_labels(shape, np.dtype(dtype), y) == task
