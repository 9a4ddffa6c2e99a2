"""Where each tensor of a checkpoint lies in its file; a tensor is read from there and from nowhere else."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
        if not negative and not ragged and (self.count == 0 or self._reach() < self.elements >= self.count):
            return
        raise CheckpointError(
            f"tensor {name!r} of shape {list(self.shape)} does not fit in its storage of {self.elements} elements",
            hint="the file is damaged, or holds an expanded view: call .contiguous() on each tensor before saving",
            code="tensor_out_of_bounds",
            details={"tensor": name, "shape": list(self.shape), "storage_elements": self.elements},
        )

    def _reach(self) -> int:
        if self.stride is None:
            return self.start + self.count - 1
        return self.start + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


@dataclass(frozen=True)
class Contents:
    """What a format found in a file: every tensor's place, and what is worth saying about the file."""

    tensors: Mapping[str, StoredTensor]
    container: str | None = None
    notes: tuple[str, ...] = field(default=())


def element_count(shape: tuple[int, ...]) -> int:
    """The product of ``shape``; 1 for a scalar. Exact: Python integers do not overflow."""
    count = 1
    for size in shape:
        count *= size
    return count


def read_tensors(path: Path, tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Copies of ``tensors``, contiguous, on the CPU, in their stored dtype."""
    with _mapped(path) as mapped:
        return {name: _view(mapped, stored).clone(memory_format=torch.contiguous_format)
                for name, stored in tensors.items()}  # fmt: skip


def non_finite(path: Path, tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity, read in pieces from the mapped file."""
    with _mapped(path) as mapped:
        return [name for name, stored in tensors.items() if not _all_finite(mapped, stored)]


def _all_finite(mapped: mmap.mmap | None, stored: StoredTensor) -> bool:
    if not stored.dtype.is_floating_point and not stored.dtype.is_complex:
        return True
    view = _view(mapped, stored)
    flat = view.reshape(-1) if stored.stride is None else view.flatten()
    pieces = (flat[first : first + _CHUNK] for first in range(0, flat.numel(), _CHUNK))
    narrow = stored.dtype.itemsize == 1
    return all(bool(torch.isfinite(piece.float() if narrow else piece).all()) for piece in pieces)


def _view(mapped: mmap.mmap | None, stored: StoredTensor) -> Tensor:
    if mapped is None or stored.count == 0:
        return torch.empty(stored.shape, dtype=stored.dtype)
    flat = torch.frombuffer(mapped, dtype=stored.dtype, count=stored.elements, offset=stored.offset)
    if stored.stride is None:
        return flat[stored.start : stored.start + stored.count].view(stored.shape)
    return flat.as_strided(stored.shape, stored.stride, stored.start)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | None]:
    """The file in memory, copy-on-write: torch wants a writable buffer, and the file stays as it is."""
    if path.stat().st_size == 0:
        yield None
        return
    with path.open("rb") as file:
        # not closed here: a view may still be alive when an exception passes; the last reference unmaps it
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
