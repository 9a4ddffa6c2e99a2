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
    architecture could not be built from these tensors at all; ``notes`` what was tied, left aside or made anew.
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
    notes: list[str] = []
    problem: str | None = None


class CheckpointPart(Record):
    """A state dict of a training checkpoint, by the path of keys that leads to it (``RunSpec.model.part``).

    ``fits`` names the architectures whose keys and shapes are these.
    """

    name: str
    tensors: int
    parameters: int
    fits: list[str] = []


class CheckpointInspection(Record):
    """A model file: its format, its tensors, and the architectures that fit, best first.

    ``container`` names the part that is used unless another of ``parts`` is chosen; null: the file is one state dict.
    ``suggested_task`` is the one that the network's class is for; null where the file does not say. ``adapter``: these
    are the weights of a LoRA adapter, not of a network. ``trusted_code``: the file was run to read it, within the
    walls, since this server trusts such formats.
    """

    kind: Literal["checkpoint"] = "checkpoint"
    format: str
    container: str | None = None
    parts: list[CheckpointPart] = []
    tensors: list[TensorFacts] = []
    parameters: int = 0
    size_bytes: int = 0
    non_finite: list[str] = []
    architectures: list[ArchitectureMatch] = []
    suggested_task: str | None = None
    adapter: bool = False
    trusted_code: bool = False
    notes: list[str] = []


class DataInspection(Record):
    """A data file: arrays, labels, ranges, and a few samples to look at (greyscale or RGB, 0 to 255).

    ``calibration_samples`` counts other rows that come along for ranges and algorithms; null where none do.
    ``suggested_task`` is what labels of this shape and kind are for.
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
    suggested_task: str | None = None
    preview: list[Any] = []
    preview_labels: list[int] = []
    preview_texts: list[str] = []
    calibration_samples: int | None = None
    size_bytes: int = 0
    notes: list[str] = []


Inspection = CheckpointInspection | DataInspection
