"""From arrays to the rows that are measured: a fixed sample, checked labels, and x as the model takes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets import SAVE_DATA_HINT, Arrays
from quant_lens_engine.objective.tasks import TASKS
from quant_lens_engine.schema import Transform
from quant_lens_engine.schema.calibration import plan_calibration

_SAMPLE_STREAM = 1
"""Keeps the draw of rows apart from whatever else a run draws from its seed."""

_CALIBRATION_STREAM = 2

IGNORED = -100
"""The label of a position that counts for nothing: torch's own ``ignore_index``."""

_SPELLINGS_OF_IGNORED = (-1, IGNORED)
_VOID = 255
"""What masks of Pascal VOC, Cityscapes and ADE20K hold where a pixel has no class."""


@dataclass(frozen=True)
class Rows:
    """The rows that every variant is measured on.

    Attributes:
        x: ``(rows, …)`` float64 or float32 as asked, channels first; int64 where the model reads tokens.
        y: ``(rows,)`` int64 classes, ``(rows, …)`` of them where each position has one, float32 0 and 1
            ``(rows, classes)`` of multi-label, float for a regression; None where the task needs none.
        indices: their places in the file, ascending.
        available: rows in the file.
        classes: largest label plus one; of multi-label the columns of y; None where there are no labels.
        ignored: positions whose label says that they count for nothing.
        mask: ``(rows, tokens)`` 1 where x holds a token of a text, 0 where it fills the row up; None: x is no text.
    """

    x: np.ndarray
    y: np.ndarray | None
    indices: np.ndarray
    available: int
    classes: int | None
    ignored: int = 0
    mask: np.ndarray | None = None


class DrawnRows(Arrays, ABC):
    """Rows that are made when they are drawn: texts, whose tokens, masks and labels depend on the run.

    ``x`` has one entry a row and is not what the model takes.
    """

    @abstractmethod
    def select(self, indices: np.ndarray, *, task: str, seed: int, shown: str) -> Rows:
        """The rows of these numbers."""


def draw_indices(available: int, limit: int | None, seed: int) -> np.ndarray:
    """``limit`` of ``available`` rows, drawn without replacement from ``seed``, ascending; all where that is fewer.

    Example:
        >>> draw_indices(5, None, 0).tolist(), len(draw_indices(100, 10, 0))
        ([0, 1, 2, 3, 4], 10)
    """
    if limit is None or limit >= available:
        return np.arange(available)
    return np.sort(np.random.default_rng([seed, _SAMPLE_STREAM]).choice(available, limit, replace=False))


def draw_calibration(available: int, limit: int, seed: int, evaluated: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """Rows for ranges and algorithms, ascending, and whether some of them are evaluated too.

    Args:
        available: rows in the file.
        limit: at most so many.
        seed: of the draw.
        evaluated: rows of the same file that the evaluation has taken; None where it is another file.

    Example:
        >>> rows, overlap = draw_calibration(100, 40, 0, np.arange(50))
        >>> len(rows), int(rows.min()) >= 50, overlap
        (40, True, False)
        >>> draw_calibration(60, 40, 0, np.arange(50))[1]  # ten others are too few
        True
    """
    plan = plan_calibration(available, limit, None if evaluated is None else len(evaluated))
    pool = np.arange(available)
    if evaluated is not None and not plan.overlap:
        pool = np.setdiff1d(pool, evaluated)
    if limit >= len(pool):
        return pool, plan.overlap
    drawn = np.random.default_rng([seed, _CALIBRATION_STREAM]).choice(pool, limit, replace=False)
    return np.sort(drawn), plan.overlap


def select_rows(
    arrays: Arrays, transform: Transform, *, limit: int | None = None, seed: int, task: str, tokens: bool = False,
    dtype: str = "float32", shown: str = "the data", indices: np.ndarray | None = None,
) -> Rows:  # fmt: skip
    """Draw, check and transform the rows of a run.

    Args:
        arrays: the file's arrays.
        transform: what is done to x.
        limit: at most so many rows.
        seed: of the draw.
        task: whether and which labels are needed.
        tokens: x holds token numbers for an embedding: they stay integers and are not transformed.
        dtype: of the transformed x.
        shown: what messages call the data.
        indices: these rows, rather than a draw.

    Raises:
        DataError: ``empty_data``, ``length_mismatch``, ``missing_array``, ``bad_labels``, ``non_integer_labels``,
            ``label_out_of_range``, ``bad_transform``, ``non_finite_data``.
    """
    if isinstance(arrays, DrawnRows):
        drawn = draw_indices(len(arrays.x), limit, seed) if indices is None else indices
        return arrays.select(drawn, task=task, seed=seed, shown=shown)
    available = _count(arrays, shown)
    indices = draw_indices(available, limit, seed) if indices is None else indices
    labels, y = _chosen_labels(arrays.y, task, indices, shown)
    x = np.ascontiguousarray(arrays.x[indices])
    x = x.astype(np.int64) if tokens else apply_transform(x, transform, dtype)
    _check_finite("x", x, indices, shown)
    if y is not None:
        _check_finite("y", y, indices, shown)
    classes = None
    if labels is not None and TASKS[task].labels == "several":
        classes = labels.shape[1]
    elif labels is not None and labels.dtype.kind == "i":
        classes = int(labels.max()) + 1
    return Rows(x, y, indices, available, classes, 0 if y is None else int((y == IGNORED).sum()))


def apply_transform(x: np.ndarray, transform: Transform, dtype: str = "float32") -> np.ndarray:
    """``(x * scale - mean) / std`` with channels first, computed in float64 and rounded once.

    Args:
        x: ``(rows, …)``.
        transform: layout, scale, mean, std.
        dtype: of the answer.

    Raises:
        DataError: ``bad_transform`` where the layout or the number of channels does not go with the shape of x.

    Example:
        >>> bytes_ = np.full((2, 4, 4, 3), 255, np.uint8)
        >>> out = apply_transform(bytes_, Transform(layout="NHWC", scale=1 / 255, mean=(0.5,), std=(0.5,)))
        >>> out.shape, float(out.max())
        ((2, 3, 4, 4), 1.0)
    """
    wanted = {"NHWC": 4, "NCHW": 4, "NHW": 3, None: x.ndim}[transform.layout]
    if x.ndim != wanted:
        raise _bad_transform(f"the layout {transform.layout} needs {wanted} axes; x has the shape {list(x.shape)}")
    if transform.layout == "NHWC":
        x = np.moveaxis(x, -1, 1)
    elif transform.layout == "NHW":
        x = x[:, None]
    plain = transform.scale == 1 and not transform.mean and not transform.std
    if plain:
        return np.ascontiguousarray(x, dtype=dtype)
    out = x.astype(np.float64) * transform.scale
    for name, values in (("mean", transform.mean), ("std", transform.std)):
        if values:
            shaped = _per_channel(name, values, out)
            out = out - shaped if name == "mean" else out / shaped
    return np.ascontiguousarray(out, dtype=dtype)


def _per_channel(name: str, values: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    channels = x.shape[1] if x.ndim > 1 else 1
    if len(values) not in (1, channels):
        raise _bad_transform(f"{name} has {len(values)} numbers, x has {channels} channels (shape {list(x.shape)})")
    return np.asarray(values).reshape(-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else np.asarray(values)


def _count(arrays: Arrays, shown: str) -> int:
    x, y = arrays.x, arrays.y
    if x.ndim == 0 or x.size == 0:
        raise DataError(f"{shown}: x has the shape {list(x.shape)}: no rows", hint=SAVE_DATA_HINT, code="empty_data")
    if y is not None and (y.ndim == 0 or len(y) != len(x)):
        raise DataError(
            f"{shown}: x has {len(x)} rows, y has {len(y) if y.ndim else 'no'} labels",
            hint="x and y go row by row: save them from the same split",
            code="length_mismatch",
            details={"x_rows": len(x), "y_rows": len(y) if y.ndim else None},
        )
    return len(x)


def _chosen_labels(
    y: np.ndarray | None, task: str, indices: np.ndarray, shown: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The labels that classes are counted by, and those of the rows.

    One label a row is looked at in the whole file; masks and multi-label rows only where they are drawn.
    """
    if y is not None and (kind := TASKS[task].labels) in ("position", "several"):
        found = np.asarray(y[indices])
        checked = _several_labels(found, indices, shown) if kind == "several" else _position_labels(found, task, shown)
        return checked, checked
    labels = _labels(y, task, shown)
    return labels, None if labels is None else np.ascontiguousarray(labels[indices])


def _several_labels(y: np.ndarray, indices: np.ndarray, shown: str) -> np.ndarray:
    """``(rows, classes)`` float32 of 0 and 1."""
    if y.ndim != 2:
        raise DataError(
            f"{shown}: y has the shape {list(y.shape)}; the task multi-label needs 0 or 1 for each class of a row",
            hint="y of shape (rows, classes); for one class a row choose the task classification",
            code="bad_labels",
        )
    wrong = ~((y == 0) | (y == 1))
    if wrong.any():
        place = int(np.argmax(wrong))
        row, column = divmod(place, y.shape[1])
        raise DataError(
            f"{shown}: the label of class {column} at row {int(indices[row])} is {y[row, column]}, neither 0 nor 1",
            hint="multi-label rows hold 1 for each class that they have, 0 for the others",
            code="bad_labels",
            details={"row": int(indices[row]), "class": column},
        )
    return np.ascontiguousarray(y, dtype=np.float32)


def _position_labels(y: np.ndarray, task: str, shown: str) -> np.ndarray:
    """``(rows, positions …)`` int64; what is not to be counted holds :data:`IGNORED`."""
    if task == "segmentation" and y.ndim == 4 and 1 in (y.shape[1], y.shape[3]):
        y = y[:, 0] if y.shape[1] == 1 else y[..., 0]
    axes = 3 if task == "segmentation" else 2
    if y.ndim != axes:
        raise DataError(
            f"{shown}: y has the shape {list(y.shape)}; the task {task} needs a class number for each "
            + ("pixel: (rows, height, width)" if axes == 3 else "token: (rows, tokens)"),
            hint="save y beside x in that shape; 255 or -100 where a position has no class",
            code="bad_labels",
        )
    void = task == "segmentation" and int(y.max(initial=0)) == _VOID
    ignored = np.isin(y, (*_SPELLINGS_OF_IGNORED, _VOID) if void else _SPELLINGS_OF_IGNORED)
    labels = _whole_labels(np.where(ignored, 0, y).reshape(-1), shown).reshape(y.shape)
    labels[ignored] = IGNORED
    return np.ascontiguousarray(labels)


def _labels(y: np.ndarray | None, task: str, shown: str) -> np.ndarray | None:
    if y is None:
        if TASKS[task].labels not in ("none", "text"):
            raise DataError(
                f"{shown}: it has no labels y, which the task {task!r} needs",
                hint=SAVE_DATA_HINT + "; without labels choose the task self-distillation",
                code="missing_array",
            )
        return None
    if task == "regression":
        return np.asarray(y, dtype=np.float32)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(
            f"{shown}: y has the shape {list(y.shape)}; labels are one class number a row",
            hint="turn one-hot rows into class numbers: y.argmax(axis=1)",
            code="bad_labels",
        )
    return _whole_labels(y, shown)


def _whole_labels(y: np.ndarray, shown: str) -> np.ndarray:
    if y.dtype.kind == "f":
        fractional = ~np.isfinite(y) | (y != np.round(y))
        if fractional.any():
            row = int(np.argmax(fractional))
            raise DataError(
                f"{shown}: label {float(y[row])} at row {row} is not a class number",
                hint="labels are whole numbers from 0; for targets of another kind choose the task regression",
                code="non_integer_labels",
                details={"row": row},
            )
    labels = np.asarray(y).astype(np.int64)
    if labels.min() < 0:
        row = int(np.argmax(labels < 0))
        raise DataError(
            f"{shown}: label {int(labels[row])} at row {row} is negative; classes count from 0",
            hint="number the classes from 0; drop the rows that have no label",
            code="label_out_of_range",
            details={"row": row, "label": int(labels[row])},
        )
    return labels


def _check_finite(name: str, values: np.ndarray, indices: np.ndarray, shown: str) -> None:
    if values.dtype.kind != "f":
        return
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not bad.any():
        return
    rows = indices[bad]
    raise DataError(
        f"{shown}: {name} holds NaN or infinity in {len(rows)} of {len(values)} rows, first in row {int(rows[0])}",
        hint="remove or repair these rows",
        code="non_finite_data",
        details={"array": name, "rows": rows[:20].tolist(), "count": len(rows)},
    )


def _bad_transform(reason: str) -> DataError:
    return DataError(
        reason,
        hint="NHWC: rows, height, width, channels; NCHW: channels first; NHW: grey images without a channel axis",
        code="bad_transform",
    )
