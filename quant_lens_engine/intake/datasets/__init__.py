"""Data formats and example data: one file each, each registers itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.architectures import REGISTERING, Source
from quant_lens_engine.registry import Registry, load_rooms

SAVE_DATA_HINT = "save rows and labels with numpy.savez('data.npz', x=x, y=y): y holds one class number a row, from 0"
"""What a data file should be, in one line."""


@dataclass(frozen=True)
class Arrays:
    """Rows as they lie in a file.

    Attributes:
        x: ``(rows, …)`` numbers; mapped from the file where it can be, so that only the rows used are read.
        y: ``(rows,)`` labels; None where the file has none.
        notes: sentences on what was recognised.
        calibration: other rows of the same kind that come along, for ranges and algorithms.
    """

    x: np.ndarray
    y: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    calibration: Arrays | None = None


@dataclass(frozen=True)
class DataFormat:
    """One data format: how its files are recognised from their first bytes, and read."""

    recognises: Callable[[bytes, Path], bool]
    read: Callable[[Path], Arrays]
    extensions: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class ExampleData:
    """Data with a name, from the engine or a plug-in."""

    name: str
    load: Callable[[], Arrays]
    description: str = ""
    source: Source = field(default_factory=Source)


DATA_FORMATS: Registry[DataFormat] = Registry("data format", DataError)
EXAMPLE_DATA: Registry[ExampleData] = Registry("example data", DataError)


def dataset(name: str, *, description: str = "") -> Callable[[Callable[[], Arrays]], Callable[[], Arrays]]:
    """Register example data under ``name``: a function that takes nothing and returns :class:`Arrays`."""

    def register(load: Callable[[], Arrays]) -> Callable[[], Arrays]:
        text = description or (load.__doc__ or "").strip().partition("\n")[0]
        EXAMPLE_DATA.add(name, ExampleData(name, load, text, REGISTERING.get()))
        return load

    return register


def recognise_data(path: Path) -> str | None:
    """The data format of a file; None where none is recognised.

    Raises:
        DataError: ``empty_file``.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise DataError(
            "the file is empty", hint="upload it again; check that it was saved completely", code="empty_file"
        )
    return next((name for name, known in DATA_FORMATS.items() if known.recognises(head, path)), None)


def read_arrays(path: Path, filename: str) -> tuple[str, Arrays]:
    """Format and arrays of a data file.

    Raises:
        DataError: ``not_data``, or what the format has against the file; messages say ``filename``, never the path.
    """
    try:
        name = recognise_data(path)
        if name is None:
            raise DataError("not a data file: data is a .npz of numpy", hint=SAVE_DATA_HINT, code="not_data")
        return name, DATA_FORMATS[name].read(path)
    except DataError as error:
        error.message = f"{filename}: {error.message}"
        error.args = (error.message,)
        raise


load_rooms(sys.modules[__name__])
