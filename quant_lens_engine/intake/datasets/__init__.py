"""Data formats and example data: one file each, each registers itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.architectures import REGISTERING, Source
from quant_lens_engine.intake.datasets.lazy_rows import LazyRows
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.tree import Tree
from quant_lens_engine.registry import Registry, load_rooms

SAVE_DATA_HINT = "save rows and labels with numpy.savez('data.npz', x=x, y=y): y holds one class number a row, from 0"
"""What a data file should be, in one line."""


@dataclass(frozen=True)
class Arrays:
    """Rows as they lie in a file.

    Attributes:
        x: ``(rows, …)`` numbers; mapped from the file or decoded when asked for where it can be, so that only the rows
            used are read.
        y: ``(rows,)`` labels; None where the file has none.
        notes: sentences on what was recognised.
        calibration: other rows of the same kind that come along, for ranges and algorithms.
    """

    x: np.ndarray | LazyRows
    y: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    calibration: Arrays | None = None


@dataclass(frozen=True)
class Given(GivenFile):
    """A file or folder that somebody calls data."""

    def tree(self, what: str = "zip") -> Tree:
        """The members.

        Raises:
            DataError: ``bad_<what>``, ``<what>_bomb`` or ``truncated_file`` where the archive is not sound.
        """
        if isinstance(self.found, Tree):
            return self.found
        error = self.found
        raise DataError(
            f"not a sound {what}: {error}",
            hint="the file is cut off: upload it again" if error.truncated else SAVE_DATA_HINT,
            code=f"{what}_bomb" if error.bomb else "truncated_file" if error.truncated else f"bad_{what}",
        )


@dataclass(frozen=True)
class DataFormat:
    """One data format: how its files are recognised, and read.

    Attributes:
        recognises: from the first bytes, or the names of a folder's or zip's members; a file's own name proves nothing,
            an upload has none. Never raises.
        read: the rows; raises DataError.
        extensions: what such files are usually called.
        description: one line for people.
        explains: why a file of this kind is not data, where ``recognises`` says no; None where it is of another kind.
    """

    recognises: Callable[[Given], bool]
    read: Callable[[Given], Arrays]
    extensions: tuple[str, ...] = ()
    description: str = ""
    explains: Callable[[Given], DataError | None] | None = None


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


def recognise_data(given: Given) -> str | None:
    """The data format of a file or folder; None where none is recognised.

    Raises:
        DataError: ``empty_file``.
    """
    if given.is_empty:
        raise DataError(
            "the file is empty", hint="upload it again; check that it was saved completely", code="empty_file"
        )
    return next((name for name, known in DATA_FORMATS.items() if known.recognises(given)), None)


def read_arrays(path: Path, filename: str, given: Given | None = None) -> tuple[str, Arrays]:
    """Format and arrays of a data file or folder.

    Args:
        path: where it is.
        filename: what its owner calls it.
        given: what was seen of it already: an archive's directory is not read twice.

    Raises:
        DataError: ``not_data``, or what the format has against the file; messages say ``filename``, never the path.
    """
    try:
        given = given or Given.at(path)
        name = recognise_data(given)
        if name is None:
            given.tree()
            raise _not_data(given)
        return name, DATA_FORMATS[name].read(given)
    except DataError as error:
        error.about(filename)
        raise


def _not_data(given: Given) -> DataError:
    for form in DATA_FORMATS.values():
        if form.explains is not None and (error := form.explains(given)) is not None:
            return error
    held = f"; it holds {', '.join(given.names[:5])}" + (" …" if len(given.names) > 5 else "") if given.names else ""
    known = "; ".join(f"{name}: {form.description}" for name, form in sorted(DATA_FORMATS.items()))
    return DataError(
        f"not data of a kind that is read{held}", hint=f"{SAVE_DATA_HINT}. What is read: {known}", code="not_data"
    )


load_rooms(sys.modules[__name__])
