"""What is in an uploaded file: a checkpoint with the architectures that fit, or data with a look at its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.checkpoint import Checkpoint, count_parameters, open_checkpoint
from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, Given, read_arrays, recognise_data
from quant_lens_engine.intake.datasets.lazy_rows import LazyRows
from quant_lens_engine.intake.datasets.text import PLAIN_TEXT
from quant_lens_engine.intake.label_kind import task_of_labels
from quant_lens_engine.intake.matching import match_architecture, own_architecture, rank_architectures
from quant_lens_engine.intake.plugins import load_plugins
from quant_lens_engine.intake.text_inspection import describe_texts
from quant_lens_engine.intake.texts import Texts
from quant_lens_engine.intake.tree import FolderTree
from quant_lens_engine.schema import CheckpointInspection, DataInspection, Inspection, TensorFacts
from quant_lens_engine.schema.inspection import CheckpointPart

PREVIEW_ROWS = 12
_MOST_CANDIDATES = 5
_LONGEST_LIST = 2_000
_MOST_PARTS = 8
_LARGEST_PREVIEW = 64
_LOOK_BYTES = 1 << 28
"""How much of x is read for its range and for NaN; a larger file is looked at in evenly spaced rows."""
_LOOK_ROWS = 256
"""The same of rows that must be decoded."""
_BYTE = 255


def inspect_file(
    path: Path, *, filename: str | None = None, plugins: Path | None = None, trusted: bool = False
) -> Inspection:  # fmt: skip
    """Look at a file, whichever kind it is.

    Args:
        path: the file.
        filename: what its owner calls it; messages say this. Default: the path's last part.
        plugins: the plug-ins folder whose architectures are tried too.
        trusted: a checkpoint that is code may be run to read it: see :func:`open_checkpoint`.

    Raises:
        CheckpointError: neither a checkpoint nor data, refused, or damaged.
        DataError: data that cannot be read, or not be used.
    """
    shown = Path(filename or path.name).name or "the file"
    given = Given.at(path)
    kind = recognise_data(given)
    if kind is not None and (kind != PLAIN_TEXT or shown.lower().endswith(DATA_FORMATS[kind].extensions)):
        return inspect_data(path, shown, given)
    load_plugins(plugins)
    return inspect_checkpoint(open_checkpoint(path, shown, trusted=trusted, given=given))


def inspect_checkpoint(checkpoint: Checkpoint) -> CheckpointInspection:
    """Format, tensors, and the architectures whose keys are nearest, best first; or the file's own network."""
    facts = [
        TensorFacts(name=name, shape=list(stored.shape), dtype=str(stored.dtype).removeprefix("torch."))
        for name, stored in checkpoint.tensors.items()
    ]
    notes = list(checkpoint.notes)
    adapter = any(".lora_" in name for name in checkpoint.tensors)
    if adapter:
        notes.append("This is a LoRA adapter: choose its base as the model, and give this file as model.adapter.")
    if len(facts) > _LONGEST_LIST:
        notes.append(f"The first {_LONGEST_LIST} of {len(facts)} tensors are listed.")
    own = own_architecture(checkpoint)
    if own is not None:
        shown = [match_architecture(own, checkpoint.shapes)]
    else:
        ranked = rank_architectures(checkpoint.shapes, checkpoint.integers)
        shown = [match for match in ranked if match.fits or match.matched][:_MOST_CANDIDATES] or ranked[:1]
    once = {stored: name for name, stored in checkpoint.tensors.items()}  # tied weights have several names
    buffers = checkpoint.network.buffers if checkpoint.network is not None else {}
    return CheckpointInspection(
        format=checkpoint.format,
        container=checkpoint.container,
        parts=[_describe_part(checkpoint, name) for name in list(checkpoint.parts)[:_MOST_PARTS]],
        tensors=facts[:_LONGEST_LIST],
        parameters=count_parameters({name: stored for stored, name in once.items() if name not in buffers}),
        size_bytes=checkpoint.size_bytes,
        non_finite=checkpoint.non_finite(),
        architectures=shown,
        suggested_task=None if checkpoint.named is None else checkpoint.named.task,
        adapter=adapter,
        trusted_code=checkpoint.ran,
        notes=notes,
    )


def _describe_part(checkpoint: Checkpoint, name: str) -> CheckpointPart:
    part = checkpoint.with_part(name)
    fitting = [match.architecture for match in rank_architectures(part.shapes, part.integers) if match.fits]
    return CheckpointPart(name=name, tensors=len(part.tensors), parameters=count_parameters(part.tensors), fits=fitting)


def inspect_data(path: Path, filename: str, given: Given | None = None) -> DataInspection:
    """Arrays, labels, ranges, and the first rows as small pictures."""
    name, arrays = read_arrays(path, filename, given)
    size = sum(FolderTree(path).sizes.values()) if path.is_dir() else path.stat().st_size
    if isinstance(arrays, Texts):
        return describe_texts(arrays, name, size)
    return describe_arrays(arrays, name, filename, size)


def describe_arrays(arrays: Arrays, format_name: str, shown: str, size_bytes: int) -> DataInspection:
    """What :func:`inspect_data` says, of arrays that are in memory (the examples)."""
    x, y = arrays.x, arrays.y
    if x.ndim == 0 or x.size == 0:
        raise DataError(
            f"{shown}: x has the shape {list(x.shape)}: no rows", hint="save at least one row", code="empty_data"
        )
    looked = _looked_at(x)
    found = DataInspection(
        format=format_name,
        samples=len(x),
        x_shape=list(x.shape),
        x_dtype=str(x.dtype),
        x_min=float(np.nanmin(looked)),
        x_max=float(np.nanmax(looked)),
        size_bytes=size_bytes,
        notes=list(arrays.notes),
        calibration_samples=None if arrays.calibration is None else len(arrays.calibration.x),
    )
    if looked.dtype.kind == "f" and not np.isfinite(looked).all():
        found.notes.append("x holds NaN or infinity: a run on these rows will be refused.")
    if len(looked) < len(x):
        found.notes.append(f"The range is that of {len(looked)} of the {len(x)} rows, evenly spaced.")
    found.suggested_layout = _layout(x.shape)
    _suggest(found)
    _describe_labels(found, y)
    found.suggested_task = task_of_labels(x.shape, x.dtype, y)
    found.preview = _pictures(x, found)
    return found


def _describe_labels(found: DataInspection, y: np.ndarray | None) -> None:
    if y is None:
        found.notes.append("There are no labels (y): only self-distillation can be measured.")
        return
    found.y_dtype = str(y.dtype)
    if y.ndim == 0 or len(y) != found.samples:
        found.notes.append(f"y has {len(y) if y.ndim else 'no'} labels for {found.samples} rows.")
        return
    flat = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if flat.ndim != 1 or (flat.dtype.kind == "f" and (flat != np.round(flat)).any()):
        found.notes.append(f"y of shape {list(y.shape)} and {y.dtype} holds no class numbers.")
        return
    labels, counts = np.unique(flat.astype(np.int64), return_counts=True)
    found.classes = len(labels)
    pairs = list(zip(labels.tolist(), counts.tolist(), strict=True))
    found.label_counts = {str(label): count for label, count in pairs[:_LONGEST_LIST]}
    found.preview_labels = flat[:PREVIEW_ROWS].astype(np.int64).tolist()


def _suggest(found: DataInspection) -> None:
    """A scale, and what in the values or axes is likely to be wrong without a transform."""
    low, high = found.x_min or 0.0, found.x_max or 0.0
    whole_bytes = found.x_dtype == "uint8"
    byte_range = found.suggested_layout is not None and low >= 0 and 2 < high <= _BYTE
    found.suggested_scale = 1 / _BYTE if whole_bytes or (byte_range and high > _BYTE / 2) else 1.0
    if found.suggested_layout == "NHWC":
        found.notes.append(
            f"The last axis has {found.x_shape[-1]}: channels come last. Most models take them first: choose NHWC."
        )
    if byte_range and high <= _BYTE / 2:
        found.notes.append(f"Values reach only {high:g}: if {high:g} is full brightness, set the scale 1/{high:g}.")
    elif byte_range and not whole_bytes:
        found.notes.append("Values lie between 0 and 255: set the scale 1/255 if the model was trained on 0 to 1.")


def _looked_at(x: np.ndarray | LazyRows) -> np.ndarray:
    step = max(1, -(-x.nbytes // _LOOK_BYTES))
    if isinstance(x, LazyRows):
        step = max(step, -(-len(x) // _LOOK_ROWS))
    return np.asarray(x[::step])


def _layout(shape: tuple[int, ...]) -> Any:
    if len(shape) == 3:
        return "NHW"
    if len(shape) == 4:
        return "NCHW" if shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4) else "NHWC" if shape[3] <= 4 else "NCHW"
    return None


def _pictures(x: np.ndarray | LazyRows, found: DataInspection) -> list[Any]:
    """The first rows as nested lists of 0 to 255, ``height × width`` or ``height × width × 3``."""
    if found.suggested_layout is None:
        return []
    rows = np.asarray(x[:PREVIEW_ROWS], dtype=np.float64)
    if found.suggested_layout == "NCHW":
        rows = np.moveaxis(rows, 1, -1)
    if rows.ndim == 4:
        rows = rows[..., :3] if rows.shape[-1] >= 3 else rows[..., 0]
    step = max(1, -(-max(rows.shape[1:3]) // _LARGEST_PREVIEW))
    rows = np.nan_to_num(rows[:, ::step, ::step])
    low, high = (0.0, 255.0) if found.x_dtype == "uint8" else (float(rows.min()), float(rows.max()))
    scaled = (rows - low) * (255 / (high - low if high > low else 1.0))
    pictures: list[Any] = np.clip(np.round(scaled), 0, 255).astype(int).tolist()
    return pictures
