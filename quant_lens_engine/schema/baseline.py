"""The float model on some rows, before a run is asked for."""

from __future__ import annotations

from quant_lens_engine.schema.base import MaybeFloat, Record


class BaselineCheck(Record):
    """Whether model, labels and transform go together, and how fast the model is.

    Attributes:
        architecture: the one that was used.
        samples: rows that were tried; ``available`` are in the file.
        accuracy: fraction right, 0 to 1; null where there are no classes.
        loss: mean loss, nats for classes.
        classes: different labels that were seen; ``outputs`` is the width of the model's answer.
        seconds_per_row: of one forward pass, on the device of a run.
        agrees: the accuracy is clearly above guessing and nearer to perfect than to it, or there is none to judge by.
        message: the finding in a few words; ``hint`` what to look at where it is bad.
    """

    architecture: str | None = None
    samples: int = 0
    available: int = 0
    accuracy: MaybeFloat = None
    accuracy_standard_error: MaybeFloat = None
    loss: MaybeFloat = None
    loss_standard_error: MaybeFloat = None
    classes: int | None = None
    outputs: int | None = None
    seconds_per_row: MaybeFloat = None
    device: str = "cpu"
    agrees: bool = True
    message: str = ""
    hint: str = ""
