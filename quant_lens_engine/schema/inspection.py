"""What was found in an uploaded file, without (and then inside) the sandbox."""

from __future__ import annotations

from typing import Any, Literal

from quant_lens_engine.schema.base import MaybeFloat, Record


class TensorFacts(Record):
    """One tensor of a checkpoint."""

    name: str
    shape: list[int]
    dtype: str


class KeyDifference(Record):
    """How one key of the checkpoint differs from what an architecture wants; a null shape: not there."""

    key: str
    found: list[int] | None
    wanted: list[int] | None
    kind: Literal["missing", "unexpected", "shape"]


class ArchitectureMatch(Record):
    """How well an architecture's keys and shapes fit a checkpoint.

    ``matched`` of ``wanted`` keys have the right shape; ``fits`` says that nothing differs; ``problem`` why the
    architecture could not be built from these tensors at all.
    """

    architecture: str
    fits: bool
    matched: int
    wanted: int
    found: int
    missing: int = 0
    unexpected: int = 0
    shape_differs: int = 0
    differences: list[KeyDifference] = []
    options: dict[str, Any] = {}
    problem: str | None = None


class CheckpointInspection(Record):
    """A model file: its format, its tensors, and the architectures that fit, best first."""

    kind: Literal["checkpoint"] = "checkpoint"
    format: str
    container: str | None = None
    tensors: list[TensorFacts] = []
    parameters: int = 0
    size_bytes: int = 0
    non_finite: list[str] = []
    architectures: list[ArchitectureMatch] = []
    notes: list[str] = []


class DataInspection(Record):
    """A data file: arrays, labels, ranges, and a few samples to look at (greyscale or RGB, 0 to 255).

    ``calibration_samples`` counts other rows that come along for ranges and algorithms; null where none do.
    """

    kind: Literal["data"] = "data"
    format: str
    samples: int = 0
    x_shape: list[int] = []
    x_dtype: str = ""
    x_min: MaybeFloat = None
    x_max: MaybeFloat = None
    y_dtype: str | None = None
    classes: int | None = None
    label_counts: dict[str, int] = {}
    suggested_layout: Literal["NHWC", "NCHW", "NHW"] | None = None
    suggested_scale: float = 1.0
    preview: list[Any] = []
    preview_labels: list[int] = []
    calibration_samples: int | None = None
    size_bytes: int = 0
    notes: list[str] = []


Inspection = CheckpointInspection | DataInspection
