"""Tensors of a checkpoint format as rows and labels: mapped where numpy has their type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from quant_lens_engine.errors import CheckpointError, DataError
from quant_lens_engine.intake.datasets import Arrays
from quant_lens_engine.intake.datasets.numpy_file import LABEL_NAMES, ROW_NAMES, pick_names
from quant_lens_engine.intake.formats.layout import StoredTensor, contiguous_stride, read_tensors

MAX_COPIED_BYTES = 2 << 30
_LONGEST_AXIS = 1 << 48
_NUMPY: dict[torch.dtype, str] = {
    torch.float64: "<f8", torch.float32: "<f4", torch.float16: "<f2", torch.int64: "<i8", torch.int32: "<i4",
    torch.int16: "<i2", torch.int8: "i1", torch.uint8: "u1", torch.uint16: "<u2", torch.uint32: "<u4",
    torch.uint64: "<u8", torch.bool: "?",
}  # fmt: skip


def are_rows(names: Mapping[str, object]) -> bool:
    """Whether tensors of these names are data rather than weights: rows, and labels or nothing else."""
    return any(name in ROW_NAMES for name in names) and (any(name in LABEL_NAMES for name in names) or len(names) == 1)


def arrays_of(path: Path, tensors: Mapping[str, StoredTensor]) -> Arrays:
    """Rows and labels among the tensors of a file.

    Raises:
        DataError: ``missing_array``, ``not_numbers``, ``too_large``.
    """
    x_name, y_name, notes = pick_names(tensors)
    if unread := [name for name in tensors if name not in (x_name, y_name)]:
        notes.append(f"Not read: {', '.join(name[:40] for name in unread[:5])}.")
    y = None if y_name is None else map_tensor(path, y_name, tensors[y_name])
    return Arrays(map_tensor(path, x_name, tensors[x_name]), y, tuple(notes))


def map_tensor(path: Path, name: str, stored: StoredTensor) -> np.ndarray:
    """A tensor as an array; of a type that numpy lacks (bfloat16, 8-bit floats) a copy in float32.

    Raises:
        DataError: ``not_numbers`` (complex), ``too_large``, ``bad_data``.
    """
    if stored.dtype.is_complex:
        raise DataError(f"the tensor {name!r} is complex", hint="save real and imaginary part as two channels",
                        code="not_numbers")  # fmt: skip
    if len(stored.shape) > 32 or any(size >= _LONGEST_AXIS for size in stored.shape):
        raise DataError(f"the tensor {name!r} claims the shape {list(stored.shape)[:8]}", hint="save it again")
    if stored.count == 0:
        return np.empty(stored.shape, _NUMPY.get(stored.dtype, "<f4"))
    kind = _NUMPY.get(stored.dtype)
    if kind is None:
        if 4 * max(stored.count, stored.elements) > MAX_COPIED_BYTES:
            raise DataError(f"the tensor {name!r} of {stored.dtype} would be copied whole", hint="save it in float32",
                            code="too_large")  # fmt: skip
        return np.asarray(read_tensors(path, {name: stored})[name].float().numpy())
    whole = np.memmap(path, kind, mode="r", offset=stored.offset, shape=(stored.elements,))
    steps = stored.stride or contiguous_stride(stored.shape)
    view = np.lib.stride_tricks.as_strided(
        whole[stored.start :], stored.shape, [step * whole.itemsize for step in steps], writeable=False
    )  # fmt: skip  # inside the file: the format has checked its reach
    return np.asarray(view)


def as_data_error(error: CheckpointError, hint: str) -> DataError:
    """What a checkpoint format has against a file that is to be data."""
    return DataError(error.message, hint=hint, code=error.code, details=error.details)


def no_rows(tensors: Mapping[str, StoredTensor], hint: str) -> DataError:
    """Why a file of these tensors is not data."""
    held = ", ".join(name[:60] for name in list(tensors)[:5]) or "none"
    return DataError(f"it has no tensors x and y; it holds {held}: is it the model?", hint=hint, code="missing_array")
