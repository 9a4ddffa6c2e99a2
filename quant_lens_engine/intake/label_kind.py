"""Which task labels are for, by their shape and kind: a suggestion, which the user may know better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def task_of_labels(x_shape: Sequence[int], x_dtype: np.dtype, y: np.ndarray | None) -> str | None:
    """The task whose labels look like these.

    Args:
        x_shape: of all rows, as stored (channels first or last).
        x_dtype: of the rows: whole numbers in a row may be tokens.
        y: ``(rows, …)``; None where the file has none.

    Returns:
        A name as in ``RunSpec.task``; None where there is no label for each row.

    Example:
        >>> x = np.zeros((4, 3, 8, 8), np.float32)
        >>> labels = [np.arange(4), np.full(4, 0.5), np.zeros((4, 8, 8), int), np.eye(4, 5, dtype=int), None]
        >>> [task_of_labels(x.shape, x.dtype, y) for y in labels]
        ['classification', 'regression', 'segmentation', 'multi-label', 'self-distillation']
    """
    if y is None:
        return "self-distillation"
    if y.ndim == 0 or len(y) != x_shape[0] or not y.size:
        return None
    if y.dtype.kind == "f" and not (np.isfinite(y) & (y == np.round(y))).all():
        return "regression"
    if y.ndim == 1 or y.shape[1:] == (1,):
        return "classification"
    if y.dtype.kind in "iu" and y.shape == tuple(x_shape) and y.ndim == 2 and x_dtype.kind in "iu":
        return "token-classification"
    if y.dtype.kind in "iu" and y.ndim > 2 and _a_class_a_pixel(tuple(x_shape[1:]), y.shape[1:]):
        return "segmentation"
    if y.ndim == 2 and ((y == 0) | (y == 1)).all():
        return "multi-label"
    return "regression" if y.dtype.kind == "f" else None


def _a_class_a_pixel(row: tuple[int, ...], label: tuple[int, ...]) -> bool:
    """Whether a label has an entry for each pixel of a picture of any number of channels."""
    return label == row or (len(row) == len(label) + 1 and label in (row[1:], row[:-1]))
