"""Whether labels and the model's answers go together, before anything is measured."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.rows import Rows
from quant_lens_engine.objective.tasks import TASKS


def check_positions(rows: Rows, answer: Tensor, task: str, shown: str) -> tuple[int, list[str]]:
    """Each position of a row has both scores and a label: pixels of a segmentation, tokens of a tagging.

    Args:
        rows: with labels ``(rows, …)``.
        answer: of the model to the first rows.
        task: ``segmentation`` or ``token-classification``.
        shown: what messages call the data.

    Returns:
        How many classes the model has, and sentences on what is not counted.

    Raises:
        DataError: ``bad_output``, ``label_out_of_range``.
    """
    assert rows.y is not None
    classes_last = task == "token-classification"
    scores = answer.movedim(-1, 1) if classes_last and answer.ndim > 1 else answer
    wanted = rows.y.shape[1:]
    if scores.ndim < 2 or tuple(scores.shape[2:]) != wanted:
        order = "(tokens, classes)" if classes_last else "(classes, height, width)"
        raise DataError(
            f"the model answers a row of {shown} with the shape {list(answer.shape[1:])}, its labels have the shape "
            f"{list(wanted)}; {order} is needed",
            hint="labels and scores go position by position: resize the labels, or let the model resize its scores",
            code="bad_output",
        )
    check_label_range(rows, scores.shape[1], shown)
    if not rows.ignored:
        return scores.shape[1], []
    return scores.shape[1], [
        f"{rows.ignored} of {rows.y.size} {TASKS[task].answers} have no class and are not counted."
    ]


def check_label_range(rows: Rows, classes: int, shown: str) -> None:
    """Every label names one of the model's classes.

    Raises:
        DataError: ``label_out_of_range``, with the first one and its row.
    """
    if rows.y is None or not len(rows.y) or int(rows.y.max()) < classes:
        return
    place = int(np.argmax(rows.y >= classes))
    label, row = int(rows.y.flat[place]), int(rows.indices[place // rows.y[0].size])
    raise DataError(
        f"{shown}: label {label} at row {row}, but the model has {classes} classes (0 to {classes - 1})",
        hint="number the classes from 0 as in training, or choose the data that the model was trained for",
        code="label_out_of_range",
        details={"row": row, "label": label, "classes": classes},
    )


def check_columns(rows: Rows, classes: int, shown: str) -> None:
    """A multi-label row has a label for each logit.

    Raises:
        DataError: ``bad_labels``.
    """
    if rows.y is not None and rows.y.shape[1] != classes:
        raise DataError(
            f"{shown}: a row has {rows.y.shape[1]} labels, the model gives {classes} logits",
            hint="y needs a column for each class, in the order of the model's outputs",
            code="bad_labels",
            details={"labels": rows.y.shape[1], "classes": classes},
        )
