"""Tables as text: comma, semicolon or tab between the cells, with or without a line of names.

Read in blocks as text and then turned into numbers, so that a cell that is none is named by its row and column.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, DataFormat, Given
from quant_lens_engine.intake.datasets.arrow_columns import (
    INDEX_COLUMNS,
    buffer_of,
    label_column,
    label_values,
    load_arrow,
)
from quant_lens_engine.intake.datasets.arrow_rows import MAX_COLUMNS
from quant_lens_engine.intake.datasets.labels import class_list
from quant_lens_engine.intake.given import HEAD_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

MAX_TABLE_BYTES = 1 << 30
"""Of x as float64: text cannot be mapped, so a table is held in memory whole."""
_BLOCK_BYTES = 4 << 20
_DELIMITERS = ",;\t"
_MISSING = {"", "na", "n/a", "null", "none", "?"}
_WIDE = 100
"""Columns of a table whose first line alone is longer than what is looked at."""
_EXACT_INTEGERS = 2.0**53
_HINT = (
    "a table has one number a cell, no thousands separators, and a column y (or label, target, class); "
    "numpy.savez and Parquet are faster"
)


@dataclass(frozen=True)
class _Layout:
    """How the file's lines are to be taken: row 1 is the first line, names included."""

    delimiter: str
    columns: tuple[str, ...]
    has_names: bool

    def line(self, row: int) -> int:
        """The line of a row, as an editor counts (without line breaks in cells)."""
        return row + 1 + self.has_names


@dataclass
class _Table:
    """Blocks of x, and the labels as text."""

    blocks: list[np.ndarray] = field(default_factory=list)
    labels: list[pa.Array] = field(default_factory=list)
    rows: int = 0
    whole: bool = True


def _recognises(given: Given) -> bool:
    if given.names:
        return sum(name.lower().endswith((".csv", ".tsv")) for name in given.names) == 1 and not any(
            name.lower().endswith(_NOT_BESIDE) for name in given.names
        )
    text = _text(given.head)
    if text is None or text.lstrip()[:1] in ("{", "[", "<", "#", "%", ""):
        return False
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        return len(given.head) == HEAD_BYTES and lines[0].count(_delimiter(lines[0])) >= _WIDE
    try:
        first, second, *_ = csv.reader(lines[:3], delimiter=_delimiter(lines[0]))
    except (csv.Error, ValueError):
        return False
    numbers = any(_number(cell) is not None for cell in second)  # prose has commas too
    return len(first) > 1 and numbers and (len(lines) < 3 or len(first) == len(second))


_NOT_BESIDE = (
    ".npy", ".pkl", ".arrow", ".parquet", ".wav", ".safetensors", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm",
    ".pgm", ".json", ".bin", ".pt",
)  # fmt: skip


def _text(head: bytes) -> str | None:
    """The beginning of a file as text; None where it is none."""
    text = head.decode("utf-8-sig", "replace")
    if "\x00" in text or "\ufffd" in text[:-4] or any(ord(sign) < 32 and sign not in "\t\r\n" for sign in text):
        return None
    return text


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count)


def _read(given: Given) -> Arrays:
    tree = given.tree("folder" if given.path.is_dir() else "zip")
    name = next(iter(tree.ending(".csv", ".tsv") or tree.sizes))
    if tree.sizes[name] == 0:
        raise DataError(f"{name!r} is empty", hint=_HINT, code="empty_data")
    content = buffer_of(tree, name)
    layout = _layout(bytes(content[: min(content.size, _BLOCK_BYTES)].to_pybytes()))
    features, label, notes = _choose(layout)
    table = _Table()
    for batch in _batches(content, layout):
        _add(table, batch, features, label, layout)
    if not table.rows:
        raise DataError("the table has no rows", hint=_HINT, code="empty_data")
    x = np.concatenate(table.blocks)
    table.blocks.clear()
    y, classes = label_values(table.labels, layout.columns[label])
    if classes:
        notes.append(f"Its texts are classes: {class_list(classes)}.")
    return Arrays(x.astype(np.int64) if table.whole else x, y, tuple(notes))


def _layout(start: bytes) -> _Layout:
    line = start.partition(b"\n")[0]
    if len(line) == len(start) == _BLOCK_BYTES:
        raise DataError("its first line has more than 4 MiB", hint=_HINT, code="bad_csv")
    try:
        text = line.decode("utf-8-sig").rstrip("\r")
        delimiter = _delimiter(text)
        cells = next(csv.reader([text], delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unsound(error) from None
    cells = [cell.strip() for cell in cells]
    if not 2 <= len(cells) <= MAX_COLUMNS:
        raise DataError(f"its first line has {len(cells)} cells; features and a label are needed", hint=_HINT,
                        code="missing_array")  # fmt: skip
    has_names = any(_number(cell) is None for cell in cells[:-1])
    columns = cells if has_names else [f"column {place}" for place in range(1, len(cells) + 1)]
    if len(set(columns)) != len(columns):
        twice = next(name for place, name in enumerate(columns) if name in columns[:place])
        raise DataError(f"two columns are named {twice[:80]!r}", hint="rename one of them", code="duplicate_column")
    return _Layout(delimiter, tuple(columns), has_names)


def _choose(layout: _Layout) -> tuple[list[int], int, list[str]]:
    """Places of the features and of the label, and what is to be said of that."""
    names = [name for name in layout.columns if name.lower() not in INDEX_COLUMNS]
    label = label_column(names, last=True)
    features = [name for name in names if name != label]
    if label is None or not features:
        raise DataError("it has one column only; features and a label are needed", hint=_HINT, code="missing_array")
    ordered = ", ".join(name[:40] for name in features[:8]) + (f" … {features[-1][:40]}" if features[8:] else "")
    notes = [f"x has {len(features)} columns: {ordered}.", f"The column {label!r} was taken as y."]
    if len(names) < len(layout.columns):
        notes.append("A column of row numbers was left out.")
    return [layout.columns.index(name) for name in features], layout.columns.index(label), notes


def _batches(content: pa.Buffer, layout: _Layout) -> Iterator[pa.RecordBatch]:
    """Blocks of the table, each cell as text."""
    pa = load_arrow()
    from pyarrow import csv as arrow_csv

    ragged: list[Any] = []

    def refuse(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        reader = arrow_csv.open_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=list(layout.columns),
                skip_rows=int(layout.has_names),
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=layout.delimiter, invalid_row_handler=refuse),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.string() for name in layout.columns}, strings_can_be_null=False,
            ),
        )  # fmt: skip
        yield from reader
    except DataError:
        raise
    except Exception as error:  # Arrow's own have no common base with those of the system
        if ragged:
            row = ragged[0]
            where = f"line {row.number}" if row.number is not None else "a line"
            raise DataError(
                f"{where} has {row.actual_columns} cells where {row.expected_columns} are expected", hint=_HINT,
                code="bad_csv", details={"line": row.number, "found": row.actual_columns},
            ) from None  # fmt: skip
        raise _unsound(error) from None


def _add(table: _Table, batch: pa.RecordBatch, features: Sequence[int], label: int, layout: _Layout) -> None:
    rows = table.rows + batch.num_rows
    if rows * len(features) * 8 > MAX_TABLE_BYTES:
        raise DataError(
            f"the table has more than {rows} rows of {len(features)} numbers: more than {MAX_TABLE_BYTES} bytes",
            hint="save it as Parquet or .npz, of which only the rows used are read",
            code="too_large",
        )
    block = np.empty((batch.num_rows, len(features)))
    for place, column in enumerate(features):
        whole = _whole_numbers(batch.column(column)) if table.whole else None
        table.whole = whole is not None
        block[:, place] = (
            _numbers(batch.column(column), table.rows, layout.columns[column], layout) if whole is None else whole
        )
    texts = batch.column(label).to_pylist() if batch.num_rows else []
    empty = next((place for place, text in enumerate(texts) if not text.strip()), None)
    if empty is not None:
        raise _not_a_number("", table.rows + empty, layout.columns[label], layout)
    table.labels.append(load_arrow().array([text.strip() for text in texts], load_arrow().string()))
    table.blocks.append(block)
    table.rows = rows


def _whole_numbers(column: pa.Array) -> np.ndarray | None:
    """A block's column, where it holds whole numbers only that float64 has exactly."""
    pa = load_arrow()
    try:
        whole = column.cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.float64)
    except pa.ArrowInvalid:
        return None
    return whole if (np.abs(whole) < _EXACT_INTEGERS).all() else None


def _numbers(column: pa.Array, first: int, name: str, layout: _Layout) -> np.ndarray:
    """A block's column; a cell that is no number is named."""
    pa = load_arrow()
    try:
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:  # it says which text, but not where
        texts = column.to_pylist()
    values = [_number(text) for text in texts]
    for place, value in enumerate(values):
        if value is None:
            raise _not_a_number(texts[place], first + place, name, layout)
    return np.array(values, np.float64)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _not_a_number(text: str, row: int, column: str, layout: _Layout) -> DataError:
    missing = text.strip().lower() in _MISSING
    said = "is missing" if missing else f"is {text[:40]!r}, not a number"
    return DataError(
        f"the cell in row {row} (line {layout.line(row)}), column {column[:80]!r} {said}",
        hint=_HINT,
        code="missing_value" if missing else "not_numbers",
        details={"row": row, "line": layout.line(row), "column": column, "value": text[:80]},
    )


def _unsound(error: Exception) -> DataError:
    reason = str(error).partition("\n")[0][:160]
    return DataError(f"the table cannot be read: {reason}", hint=_HINT, code="bad_csv")


DATA_FORMATS.add(
    "csv", DataFormat(_recognises, _read, (".csv", ".tsv"), "table with a column y, label, target or class")
)
