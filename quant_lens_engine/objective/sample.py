"""The fixed sample: batches read once, kept on the CPU, sliced by rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quant_lens_engine.errors import DataError, bad_argument

TARGET_KEYS = ("labels", "label", "targets", "target", "y")
"""Where a batch that is a mapping keeps what the criterion compares with."""


@dataclass(frozen=True)
class Batch:
    """Some rows of the sample.

    Attributes:
        content: the batch as the loader gave it: a tensor, a tuple or a dict of tensors with rows first.
        target: what the criterion compares the output with; None for a loss that needs none.
        rows: how many.
        index: its place in the sample.
        weights: how much each row counts ``(rows,)``; None: all the same.
    """

    content: Any
    target: Any
    rows: int
    index: int = 0
    weights: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype | None) -> Batch:
        """The batch on ``device``, its floating tensors in ``dtype`` (None: as they are)."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        content, target = map_tensors(self.content, move), map_tensors(self.target, move)
        return replace(self, content=content, target=target)

    def select(self, rows: Tensor | slice) -> Batch:
        """Some of the rows; what has no row axis is kept whole."""

        def take(tensor: Tensor) -> Tensor:
            return tensor[rows] if tensor.ndim and tensor.shape[0] == self.rows else tensor

        count = len(range(self.rows)[rows]) if isinstance(rows, slice) else int(rows.numel())
        weights = None if self.weights is None else self.weights[rows]
        return Batch(map_tensors(self.content, take), map_tensors(self.target, take), count, weights=weights)


class Sample:
    """All rows that every variant is measured on.

    Args:
        batches: what the loader gave, read once.

    Raises:
        DataError: there are no rows, a batch has no tensor, or a floating tensor holds NaN or infinity.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = tuple(replace(batch, index=index) for index, batch in enumerate(batches))
        self.rows = sum(batch.rows for batch in batches)

    @classmethod
    def read(cls, loader: Iterable[Any]) -> Sample:
        """Read ``loader`` once, to the CPU.

        A list of batches is shared; what comes one after the other is copied, for a loader may fill one buffer anew.
        """
        if not isinstance(loader, Iterable):
            raise DataError(
                f"a loader is needed, not a {type(loader).__name__}",
                hint="give a DataLoader, or a list of batches (x, y)",
                code="bad_batch",
            )
        shared = isinstance(loader, list | tuple)

        def keep(tensor: Tensor) -> Tensor:
            moved = tensor.detach().cpu()
            return moved if shared or tensor.device != moved.device else moved.clone()

        batches: list[Batch] = []
        for index, raw in enumerate(loader):
            content = map_tensors(_as_tensors(raw), keep)
            rows = _count_rows(content, index)
            if rows:
                _check_finite(content, index)
                batches.append(Batch(content, _target_of(content), rows))
        if not batches:
            raise DataError("the data has no rows", hint="give at least one batch", code="empty_data")
        return cls(batches)

    def weighted(self, weights: Tensor) -> Sample:
        """The same rows with weights ``(rows,)``."""
        parts = torch.split(weights, [batch.rows for batch in self.batches])
        return Sample([replace(batch, weights=part) for batch, part in zip(self.batches, parts, strict=True)])

    def regroup(self, micro_batch: int | None) -> Sample:
        """The same rows in batches of at most ``micro_batch``; None leaves them as the loader gave them.

        Raises:
            InputError: ``bad_argument``: less than one row.
        """
        if micro_batch is None:
            return self
        given: object = micro_batch
        if isinstance(given, bool) or not isinstance(given, Integral) or int(given) < 1:
            raise bad_argument("micro_batch", given, "a whole number, 1 or more, or None")
        whole = self._joined() or self
        pieces = [
            batch.select(slice(start, min(start + micro_batch, batch.rows)))
            for batch in whole.batches
            for start in range(0, batch.rows, micro_batch)
        ]
        return Sample(pieces)

    def select(self, rows: Tensor) -> Sample:
        """Some rows, by their index in the sample ``(n,)``, in batches no larger than now.

        Raises:
            InputError: ``bad_argument``: the sample has no such row, or none is given.
        """
        if not rows.numel() or int(rows.min()) < 0 or int(rows.max()) >= self.rows:
            wrong = rows[(rows < 0) | (rows >= self.rows)].tolist()
            raise bad_argument("rows", wrong[:5], f"one index or more, from 0 to {self.rows - 1}")
        largest = max(batch.rows for batch in self.batches)
        whole = self._joined()
        if whole is not None:
            return Sample([whole.batches[0].select(rows)]).regroup(largest)
        pieces, first = [], 0
        for batch in self.batches:
            inside = rows[(rows >= first) & (rows < first + batch.rows)] - first
            if inside.numel():
                pieces.append(batch.select(inside))
            first += batch.rows
        return Sample(pieces)

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(
            tensor.nbytes for batch in self.batches for tensor in (*tensors(batch.content), *tensors(batch.target))
        )

    def _joined(self) -> Sample | None:
        """All rows as one batch; None where the batches have other shapes than rows (padding to the longest)."""
        if len(self.batches) == 1:
            return self
        parts = [[*tensors(batch.content), *tensors(batch.target)] for batch in self.batches]
        shapes = {tuple((tuple(t.shape[1:]), t.dtype) for t in part) for part in parts}
        with_rows = all(
            t.ndim and t.shape[0] == b.rows for b, part in zip(self.batches, parts, strict=True) for t in part
        )
        if len(shapes) != 1 or not with_rows:
            return None
        joined = iter([torch.cat(column) for column in zip(*parts, strict=True)])
        first = self.batches[0]
        content = map_tensors(first.content, lambda _: next(joined))
        target = map_tensors(first.target, lambda _: next(joined))
        weights = [batch.weights for batch in self.batches if batch.weights is not None]
        return Sample([Batch(content, target, self.rows, weights=torch.cat(weights) if weights else None)])


def map_tensors(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``tree`` with every tensor changed; tuples, lists and mappings are walked in order."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: map_tensors(value, change) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(map_tensors(value, change) for value in tree)
    return tree


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor of ``tree``, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping | tuple | list):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from tensors(value)


def inputs_of(content: Any) -> Any:
    """What the model is called with: a batch without its target."""
    if isinstance(content, Mapping):
        return {key: value for key, value in content.items() if key != _target_key(content)}
    if isinstance(content, tuple):
        return content[0] if len(content) <= 2 else content[:-1]
    return content


def _target_of(content: Any) -> Any:
    if isinstance(content, Mapping):
        key = _target_key(content)
        return None if key is None else content[key]
    return content[-1] if isinstance(content, tuple) and len(content) > 1 else None


def _target_key(content: Mapping[str, Any]) -> str | None:
    return next((key for key in TARGET_KEYS if key in content), None)


def _as_tensors(tree: Any) -> Any:
    if isinstance(tree, np.ndarray | np.generic):
        return torch.as_tensor(tree)
    if isinstance(tree, Mapping):
        return {key: _as_tensors(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(_as_tensors(value) for value in tree)
    return tree


def _count_rows(content: Any, index: int) -> int:
    first = next(tensors(content), None)
    if first is None or first.ndim == 0:
        raise DataError(
            f"batch {index} of the loader holds no tensor with rows",
            hint="a batch is a tensor, a tuple (x, y) or a dict of tensors, with rows on the first axis",
            code="bad_batch",
        )
    return int(first.shape[0])


def _check_finite(content: Any, index: int) -> None:
    for position, tensor in enumerate(tensors(content)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            rows = torch.nonzero(~torch.isfinite(tensor).reshape(tensor.shape[0], -1).all(1)).flatten()
            raise DataError(
                f"tensor {position} of batch {index} holds NaN or infinity, first in row {int(rows[0])} of the batch",
                hint="remove or repair these rows",
                code="non_finite_data",
                details={"batch": index, "tensor": position, "rows": rows[:20].tolist(), "count": int(rows.numel())},
            )
