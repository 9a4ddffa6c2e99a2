"""Where each tensor of a checkpoint lies in its file; a tensor is read from there and from nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from quant_lens_engine.errors import CheckpointError

MAX_TENSORS = 30_000
"""A small file of three hundred thousand empty tensors makes a large and slow answer; real models have hundreds."""

_CHUNK = 1 << 24
"""Elements looked at in one go: the mask of a whole embedding table would be a second copy of it."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that has not been read.

    Attributes:
        shape: its sizes.
        dtype: of its elements, stored little-endian.
        offset: byte in the file at which its storage begins.
        elements: of its storage, all inside the file.
        start: the first element's index in the storage.
        stride: in elements; None: contiguous.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    elements: int
    start: int = 0
    stride: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """How many elements the shape has."""
        return element_count(self.shape)

    def check_bounds(self, name: str) -> None:
        """Refuse what reaches outside its storage, or repeats elements to claim more than the file holds.

        Raises:
            CheckpointError: ``tensor_out_of_bounds``.
        """
        stride = self.stride or ()
        negative = self.start < 0 or any(size < 0 for size in self.shape) or any(step < 0 for step in stride)
        ragged = self.stride is not None and len(stride) != len(self.shape)
        if not negative and not ragged and (self.count == 0 or self.reach < self.elements >= self.count):
            return
        raise CheckpointError(
            f"tensor {name!r} of shape {list(self.shape)} does not fit in its storage of {self.elements} elements",
            hint="the file is damaged, or holds an expanded view: call .contiguous() on each tensor before saving",
            code="tensor_out_of_bounds",
            details={"tensor": name, "shape": list(self.shape), "storage_elements": self.elements},
        )

    @property
    def reach(self) -> int:
        """The last element's index in the storage; of a tensor that has elements."""
        return self.start + sum((size - 1) * step for size, step in zip(self.shape, self._steps, strict=True))

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie in the file in the tensor's order, without gaps."""
        pairs = zip(self.shape, self._steps, contiguous_stride(self.shape), strict=True)
        return all(step == wanted for size, step, wanted in pairs if size > 1)

    @property
    def _steps(self) -> tuple[int, ...]:
        return contiguous_stride(self.shape) if self.stride is None else self.stride


@dataclass(frozen=True)
class Contents:
    """What a format found in a file: every tensor's place, and what is worth saying about the file."""

    tensors: Mapping[str, StoredTensor]
    container: str | None = None
    notes: tuple[str, ...] = field(default=())


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Steps of a tensor without gaps.

    Example:
        >>> contiguous_stride((2, 3, 4))
        (12, 4, 1)
    """
    steps = [1]
    for size in reversed(shape[1:]):
        steps.append(steps[-1] * size)
    return tuple(reversed(steps[: len(shape)]))


def element_count(shape: tuple[int, ...]) -> int:
    """The product of ``shape``; 1 for a scalar. Exact: Python integers do not overflow."""
    count = 1
    for size in shape:
        count *= size
    return count


def read_tensors(path: Path, tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Copies of ``tensors``, contiguous, on the CPU, in their stored dtype."""
    with path.open("rb") as file:
        return {name: _read(file, stored) for name, stored in tensors.items()}


def non_finite(path: Path, tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity; a file larger than memory is no obstacle."""
    with path.open("rb") as file:
        return [name for name, stored in tensors.items() if not _all_finite(file, stored)]


def _all_finite(file: BufferedReader, stored: StoredTensor) -> bool:
    if not stored.dtype.is_floating_point and not stored.dtype.is_complex:
        return True
    if not stored.is_contiguous:
        return _finite(_read(file, stored))
    firsts = range(0, stored.count, _CHUNK)
    return all(_finite(_elements(file, stored, first, min(_CHUNK, stored.count - first))) for first in firsts)


def _finite(values: Tensor) -> bool:
    # one byte a number: torch has no isfinite for these
    return bool(torch.isfinite(values.float() if values.dtype.itemsize == 1 else values).all())


def _read(file: BufferedReader, stored: StoredTensor) -> Tensor:
    if stored.count == 0:
        return torch.empty(stored.shape, dtype=stored.dtype)
    if stored.is_contiguous:
        return _elements(file, stored, 0, stored.count).view(stored.shape)
    span = _elements(file, stored, 0, stored.reach - stored.start + 1)
    return span.as_strided(stored.shape, stored.stride or ()).contiguous()


def _elements(file: BufferedReader, stored: StoredTensor, first: int, count: int) -> Tensor:
    """``count`` elements of the storage, from the ``first`` one behind the tensor's start."""
    content = torch.empty(count * stored.dtype.itemsize, dtype=torch.uint8)
    file.seek(stored.offset + (stored.start + first) * stored.dtype.itemsize)
    if file.readinto(content.numpy().data) != content.numel():
        raise CheckpointError("the file ended while it was read", hint="upload it again", code="truncated_file")
    return content.view(stored.dtype)
