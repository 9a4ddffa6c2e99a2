"""Where each tensor of a checkpoint lies in its files; a tensor is read from there and from nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.bundle import Bundle
from quant_lens_engine.intake.graphs import BroughtNetwork

MAX_TENSORS = 30_000
"""A small file of three hundred thousand empty tensors makes a large and slow answer; real models have hundreds."""

_BLOCK_BYTES = 1 << 20
"""Looked at in one go: it stays in the processor's cache, so that a file costs little more than reading it."""


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
        file: where it lies, of a checkpoint in several files; None: the checkpoint's own file.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    elements: int
    start: int = 0
    stride: tuple[int, ...] | None = None
    file: Path | None = None

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
class EncodedTensor(StoredTensor):
    """A tensor that lies in the file in codes of its own and is read as numbers.

    Attributes:
        size: bytes in the file, from ``offset`` on.
        decode: from these bytes ``(size,)`` uint8 to the tensor's elements, in ``dtype`` and in order.
    """

    size: int = 0
    decode: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class HeldTensor(StoredTensor):
    """A tensor that is in memory already: of a file that was trusted, and run to read it.

    Attributes:
        value: its numbers, contiguous or not.
    """

    value: Tensor | None = field(default=None, compare=False)

    @classmethod
    def of(cls, value: Tensor) -> HeldTensor:
        """What stands for ``value``; tensors that share their memory are equal."""
        held = value.detach()
        place = held.untyped_storage().data_ptr()
        return cls(
            tuple(held.shape), held.dtype, place, held.untyped_storage().nbytes(), int(held.storage_offset()),
            held.stride(), value=held,
        )  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """What a format found in a file.

    Attributes:
        tensors: the place of each tensor of the part that is meant when none is named.
        container: that part's name; None: the whole file.
        notes: sentences that are worth saying about the file.
        parts: every state dict of a training checkpoint by its path (``ema.module``), that one included; damaged ones
            are left out. Empty where the file is one state dict.
        bundle: configuration and tokenizer of the class of transformers whose names the tensors bear; else None.
        network: that the file brings along; its tensors bear the names that they have in its module. Else None.
        ran: the file was run to read it, since it was trusted.
    """

    tensors: Mapping[str, StoredTensor]
    container: str | None = None
    notes: tuple[str, ...] = field(default=())
    parts: Mapping[str, Mapping[str, StoredTensor]] = field(default_factory=dict)
    network: BroughtNetwork | None = None
    bundle: Bundle | None = None
    ran: bool = False


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
    found = {name: _read(file, stored) for name, stored, file in _with_files(path, tensors)}
    return {name: found[name] for name in tensors}


def non_finite(path: Path, tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity; a file larger than memory is no obstacle."""
    found = {name for name, stored, file in _with_files(path, tensors) if not _all_finite(file, stored)}
    return [name for name in tensors if name in found]


def files_of(path: Path, tensors: Mapping[str, StoredTensor]) -> list[Path]:
    """The files that hold ``tensors``, in the order of their first one."""
    return list(dict.fromkeys(stored.file or path for stored in tensors.values()))


def _with_files(path: Path, tensors: Mapping[str, StoredTensor]) -> Iterator[tuple[str, StoredTensor, BufferedReader]]:
    """Each tensor with its open file; every file is opened once."""
    for place in files_of(path, tensors):
        with place.open("rb") as file:
            for name, stored in tensors.items():
                if (stored.file or path) == place:
                    yield name, stored, file


def _all_finite(file: BufferedReader, stored: StoredTensor) -> bool:
    if not stored.dtype.is_floating_point and not stored.dtype.is_complex:
        return True
    if not stored.is_contiguous or isinstance(stored, EncodedTensor | HeldTensor):
        return _finite(_read(file, stored))
    block = torch.empty(_BLOCK_BYTES, dtype=torch.uint8)
    itemsize = stored.dtype.itemsize
    first, left = stored.offset + stored.start * itemsize, stored.count * itemsize
    for place in range(first, first + left, _BLOCK_BYTES):
        content = block[: min(_BLOCK_BYTES, first + left - place)]
        _fill(content, file, place)
        if not _finite(content.view(stored.dtype)):
            return False
    return True


def _finite(values: Tensor) -> bool:
    if values.numel() == 0:
        return True
    if values.dtype.itemsize == 1:
        values = values.float()  # torch has no order for these
    if values.is_complex():
        values = torch.view_as_real(values)
    ends = torch.stack(values.aminmax())  # NaN goes through both; no mask as large as the values is made
    return bool(torch.isfinite(ends).all())


def _read(file: BufferedReader, stored: StoredTensor) -> Tensor:
    if stored.count == 0:
        return torch.empty(stored.shape, dtype=stored.dtype)
    if isinstance(stored, HeldTensor) and stored.value is not None:
        return stored.value.clone(memory_format=torch.contiguous_format)
    if isinstance(stored, EncodedTensor) and stored.decode is not None:
        return stored.decode(_bytes(file, stored.offset, stored.size)).reshape(stored.shape)
    if stored.is_contiguous:
        return _elements(file, stored, 0, stored.count).view(stored.shape)
    span = _elements(file, stored, 0, stored.reach - stored.start + 1)
    return span.as_strided(stored.shape, stored.stride or ()).contiguous()


def _elements(file: BufferedReader, stored: StoredTensor, first: int, count: int) -> Tensor:
    """``count`` elements of the storage, from the ``first`` one behind the tensor's start."""
    place = stored.offset + (stored.start + first) * stored.dtype.itemsize
    return _bytes(file, place, count * stored.dtype.itemsize).view(stored.dtype)


def _bytes(file: BufferedReader, place: int, size: int) -> Tensor:
    content = torch.empty(size, dtype=torch.uint8)
    _fill(content, file, place)
    return content


def _fill(content: Tensor, file: BufferedReader, place: int) -> None:
    file.seek(place)
    if file.readinto(content.numpy().data) != content.numel():
        raise CheckpointError("the file ended while it was read", hint="upload it again", code="truncated_file")
