"""Rows and labels of a table of Arrow: which column is what, and how each kind of column becomes an array.

A single column of images or of lists is x; else all other columns, which must then hold numbers, are.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets import Arrays
from quant_lens_engine.intake.datasets.arrow_columns import (
    INDEX_COLUMNS,
    TABLE_HINT,
    ArrowSource,
    check_complete,
    check_count,
    common_dtype,
    is_image,
    is_list,
    is_number,
    label_column,
    label_values,
    load_arrow,
    missing_value,
    numbers_of,
)
from quant_lens_engine.intake.datasets.labels import class_list
from quant_lens_engine.intake.datasets.lazy_rows import LazyRows
from quant_lens_engine.intake.datasets.numpy_file import ROW_NAMES
from quant_lens_engine.intake.datasets.picture import Pictures

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 1 << 27
MAX_COLUMNS = 1 << 16
_MOST_AXES = 8


def arrays_of(source: ArrowSource) -> Arrays:
    """Rows and labels of a source.

    Raises:
        DataError: ``empty_data``, ``too_large``, ``missing_array``, ``not_numbers``, ``missing_value``,
            ``ragged_rows``, or what is wrong with an image.
    """
    names = _columns(source)
    rich = [
        name for name in names if is_image(source.schema.field(name).type) or is_list(source.schema.field(name).type)
    ]
    label = label_column(names, last=not rich)
    features = [name for name in rich or names if name != label]
    if len(features) > 1 and rich:
        features = [name for name in ROW_NAMES if name in features][:1] or features
    if len(features) > 1 and rich:
        raise _no_rows(source, f"the columns {', '.join(map(repr, features[:5]))} could each be the rows")
    if not features:
        raise _no_rows(source, "there is no column of rows beside the labels")
    x, notes = _rows(source, features, bool(rich))
    left = [name for name in source.schema.names if name not in (*features, label)]
    if left:
        notes.append(f"Columns not read: {', '.join(left[:5])}" + (f" and {len(left) - 5} more." if left[5:] else "."))
    if label is None:
        return Arrays(x, notes=tuple(notes))
    y, classes = label_values(source.label_chunks(label), label)
    classes = classes or _class_names(source, label)
    notes.append(f"The column {label!r} was taken as y" + (f": {class_list(classes)}." if classes else "."))
    return Arrays(x, y, tuple(notes))


class TableRows(LazyRows):
    """Columns of numbers as ``(rows, columns)``: int64 where all are whole, else float64, or float32 where all are."""

    def __init__(self, source: ArrowSource, columns: Sequence[str]) -> None:
        types = [source.schema.field(name).type for name in columns]
        text = next((name for name, kind in zip(columns, types, strict=True) if not is_number(kind)), None)
        if text is not None:
            raise _not_numbers(source, text)
        self._source = source
        self._columns = columns
        super().__init__((source.rows, len(columns)), common_dtype(types))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """These rows."""
        found, first = np.empty((len(rows), len(self._columns)), self.dtype), 0
        for batch in self._source.batches(self._columns, rows):
            last = first + batch.num_rows
            for place, name in enumerate(self._columns):
                column = batch.column(batch.schema.get_field_index(name))
                check_complete(column, name, rows[first:last])
                found[first:last, place] = numbers_of(column, name)
            first = last
        check_count(first, len(rows))
        return found


class ListRows(LazyRows):
    """A column of (nested) lists of numbers as ``(rows, …)``; all lists have the shape of the first."""

    def __init__(self, source: ArrowSource, column: str) -> None:
        batch = next(source.batches([column], np.arange(1)), None)
        first = load_arrow().array([]) if batch is None else batch.column(0)
        check_count(len(first), 1)
        check_complete(first, column, np.arange(1))
        shape, leaf = _list_shape(first, column)
        self._source = source
        self._column = column
        super().__init__((source.rows, *shape), common_dtype([leaf.type]))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """These rows."""
        found, first = np.empty((len(rows), *self.shape[1:]), self.dtype), 0
        for batch in self._source.batches([self._column], rows):
            last = first + batch.num_rows
            values = _flattened(batch.column(0), self.shape[1:], self._column, rows[first:last])
            found[first:last] = values.reshape(-1, *self.shape[1:])
            first = last
        check_count(first, len(rows))
        return found


def _columns(source: ArrowSource) -> list[str]:
    if source.rows == 0:
        raise DataError("it has no rows", hint="save at least one row", code="empty_data")
    names = source.schema.names
    if source.rows > MAX_ROWS or len(names) > MAX_COLUMNS:
        raise DataError(
            f"it claims {source.rows} rows of {len(names)} columns; {MAX_ROWS} and {MAX_COLUMNS} are read at most",
            hint="save a sample of the rows",
            code="too_large",
        )
    if len(set(names)) != len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DataError(f"two columns are named {twice[:80]!r}", hint="rename one of them", code="duplicate_column")
    return [name for name in names if name.strip().lower() not in INDEX_COLUMNS]


def _rows(source: ArrowSource, features: Sequence[str], rich: bool) -> tuple[LazyRows, list[str]]:
    if not rich:
        return TableRows(source, features), [f"x has the columns {_listed(features)}."]
    (name,) = features
    notes = [] if name == "x" else [f"The column {name!r} was taken as x."]
    if not is_image(source.schema.field(name).type):
        return ListRows(source, name), notes
    if _feature(source, name).get("_type") not in (None, "Image"):
        raise _not_numbers(source, name)
    shown = [f"{name} of row {row}" for row in range(source.rows)]
    pictures = Pictures(shown, lambda rows: _encoded(source, name, rows))
    if pictures.is_mixed:
        notes.append("Grey images among coloured ones were given three equal channels.")
    return pictures, notes


def _encoded(source: ArrowSource, column: str, rows: np.ndarray) -> Iterator[IO[bytes]]:
    """Each row's image as it lies in its cell: bytes, or ``{bytes, path}``."""
    first = 0
    for batch in source.batches([column], rows):
        array = batch.column(0)
        check_complete(array, column, rows[first:])
        inner = array.field("bytes") if array.type.num_fields else array
        for place, cell in enumerate(inner):
            content = cell.as_buffer()
            if content is None:
                raise DataError(
                    f"the image in row {rows[first + place]} of the column {column!r} is only a path to another file",
                    hint="embed the images: dataset.map(lambda row: row) after cast_column, or give them as a folder",
                    code="missing_value",
                    details={"row": int(rows[first + place]), "column": column},
                )
            yield io.BytesIO(content)
        first += batch.num_rows
    check_count(first, len(rows))


def _list_shape(array: pa.Array, column: str) -> tuple[tuple[int, ...], pa.Array]:
    """Lengths of the lists of the only row, from the outside in, and the array of its numbers."""
    shape: list[int] = []
    while is_list(array.type) and len(shape) < _MOST_AXES:
        lengths = np.unique(_lengths(array))
        if len(lengths) != 1 or lengths[0] == 0:
            raise _ragged(column, 0, f"lists of {' and '.join(map(str, lengths[:3]))} values")
        shape.append(int(lengths[0]))
        array = array.flatten()
    if not is_number(array.type):
        raise DataError(
            f"the column {column!r} holds lists of {str(array.type)[:80]}, not of numbers", hint=TABLE_HINT,
            code="not_numbers", details={"column": column},
        )  # fmt: skip
    return tuple(shape), array


def _flattened(array: pa.Array, shape: tuple[int, ...], column: str, rows: np.ndarray) -> np.ndarray:
    check_complete(array, column, rows)
    inside = 1  # lists of this level in one row
    for size in shape:
        wrong = _lengths(array) != size
        if wrong.any():
            place = int(np.argmax(wrong))
            found = f"a list of {int(_lengths(array)[place])} values where the first row has {size}"
            raise _ragged(column, int(rows[place // inside]), found)
        inside *= size
        array = array.flatten()
    if array.null_count:
        place = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise missing_value(column, int(rows[place // inside]))
    return numbers_of(array, column)


def _lengths(array: pa.Array) -> np.ndarray:
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False))


def _feature(source: ArrowSource, name: str) -> dict[str, Any]:
    """What the datasets library noted of a column; {} where it noted nothing that can be read."""
    try:
        noted = json.loads((source.schema.metadata or {})[b"huggingface"])["info"]["features"][name]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _class_names(source: ArrowSource, label: str) -> list[str]:
    names = _feature(source, label).get("names")
    return [str(name) for name in names] if isinstance(names, list) else []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name[:40] for name in names[:8]) + (f" … {names[-1][:40]} ({len(names)})" if names[8:] else "")


def _no_rows(source: ArrowSource, reason: str) -> DataError:
    held = ", ".join(f"{field.name[:40]} ({str(field.type)[:40]})" for field in list(source.schema)[:8])
    return DataError(f"{reason}; the columns are {held}", hint="name the column of rows x", code="missing_array")


def _not_numbers(source: ArrowSource, column: str) -> DataError:
    noted = _feature(source, column).get("_type")
    kind = source.schema.field(column).type if noted in (None, "Value") else noted
    return DataError(
        f"the column {column[:80]!r} holds {str(kind)[:80]}, not numbers", hint=TABLE_HINT, code="not_numbers",
        details={"column": column},
    )  # fmt: skip


def _ragged(column: str, row: int, found: str) -> DataError:
    return DataError(
        f"row {row} of the column {column[:80]!r} holds {found}", hint="bring all rows to one shape: pad or cut them",
        code="ragged_rows", details={"row": row, "column": column},
    )  # fmt: skip
