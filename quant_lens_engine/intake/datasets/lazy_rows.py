"""Rows that stay in their file until they are asked for: images, sound, tables in row groups."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from quant_lens_engine.errors import DataError

MAX_DECODED_BYTES = 2 << 30
"""What one reading may decode: a run has about a thousand rows, of which a photograph takes half a megabyte."""


class LazyRows(ABC):
    """Stands where an array of rows would; only the rows of an index are decoded.

    Args:
        shape: ``(rows, …)``, known from headers.
        dtype: of the decoded values.
        shown: what a row is called in messages.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], shown: str = "row") -> None:
        self.shape = shape
        self.dtype = dtype
        self.shown = shown

    @abstractmethod
    def read(self, rows: np.ndarray) -> np.ndarray:
        """``(len(rows), …)``: the rows of these numbers, which ascend."""

    @property
    def ndim(self) -> int:
        """Number of axes, that of the rows included."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all rows would take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        rows = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        decoded = len(rows) * math.prod(self.shape[1:]) * self.dtype.itemsize
        if decoded > MAX_DECODED_BYTES:
            raise DataError(
                f"{len(rows)} rows of shape {list(self.shape[1:])} would take {decoded} bytes of memory",
                hint=f"measure on fewer rows (limit) or smaller ones: {MAX_DECODED_BYTES} bytes are decoded at most",
                code="too_large",
                details={"rows": len(rows), "bytes": decoded, "limit_bytes": MAX_DECODED_BYTES},
            )
        if (np.diff(rows) >= 0).all():
            return self.read(rows)
        ascending, places = np.unique(rows, return_inverse=True)
        return self.read(ascending)[places]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)
