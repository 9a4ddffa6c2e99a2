"""Columns of Arrow, from Parquet or a Hugging Face folder: where they come from, their types, and labels of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.tree import Tree

if TYPE_CHECKING:
    import pyarrow as pa

LABEL_COLUMNS = ("y", "label", "target", "class", "labels", "targets")
"""What the column of labels is called, whatever its case; the likeliest first."""
INDEX_COLUMNS = ("", "unnamed: 0", "__index_level_0__")
"""What pandas writes when nobody tells it not to."""
MAX_INFLATED_BYTES = 2 << 30
TABLE_HINT = (
    "a table holds one number a cell, and a column y (or label, target, class); "
    "turn text into numbers, and fill or drop missing values, as in training"
)


def load_arrow() -> Any:
    """pyarrow, told to allocate as everything else does: its own pools claim address space that a sandbox counts."""
    import pyarrow  # half a second that other data need not wait for

    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    return pyarrow


class ArrowSource(ABC):
    """Columns that can be read in part.

    Attributes:
        schema: names and types of the columns.
        rows: how many there are.
    """

    schema: pa.Schema
    rows: int

    @abstractmethod
    def batches(self, columns: Sequence[str], rows: np.ndarray | None = None) -> Iterator[pa.RecordBatch]:
        """Those columns of these ascending rows, piece by piece; None: of all rows.

        Raises:
            DataError: the file is damaged.
        """

    def label_chunks(self, column: str) -> list[pa.Array]:
        """A column as a whole."""
        return [batch.column(0) for batch in self.batches([column])]


def readable(schema: pa.Schema) -> pa.Schema:
    """The schema, once every name in it could be decoded: Arrow does that when it is asked, and raises then."""
    waiting = list(schema)
    while waiting:
        field = waiting.pop()
        (field.name + str(field.type)).encode()
        waiting += [field.type.field(place) for place in range(field.type.num_fields)]
    return schema


def buffer_of(tree: Tree, name: str) -> pa.Buffer:
    """A member's bytes, mapped where they lie as they are.

    Raises:
        DataError: ``too_large``, ``truncated_file``.
    """
    pa = load_arrow()
    place, size = tree.place(name), tree.sizes[name]
    if place is not None and size:
        return pa.py_buffer(np.memmap(place[0], np.uint8, mode="r", offset=place[1], shape=(size,)))
    if size > MAX_INFLATED_BYTES:
        raise DataError(
            f"{name!r} would take {size} bytes of memory", hint="store it in the zip uncompressed", code="too_large"
        )
    try:
        content = tree.read(name, size)
    except Exception as error:  # zipfile's and zlib's have no common base
        raise DataError(
            f"{name!r} cannot be read ({error.__class__.__name__})", hint="upload it again", code="truncated_file"
        ) from None
    return pa.py_buffer(content)


def label_column(names: Sequence[str], *, last: bool) -> str | None:
    """The column of labels: by its name, or the last of a table; None where it has none.

    Example:
        >>> label_column(["Target", "a"], last=True), label_column(["a", "b"], last=True)
        ('Target', 'b')
    """
    lowered = [name.strip().lower() for name in names]
    found = next((names[lowered.index(wanted)] for wanted in LABEL_COLUMNS if wanted in lowered), None)
    return names[-1] if found is None and last and len(names) > 1 else found


def label_values(chunks: Sequence[pa.Array], column: str) -> tuple[np.ndarray, list[str]]:
    """Labels as numbers, and the names of the classes where they are text: these count in sorted order.

    Raises:
        DataError: ``missing_value``, ``not_numbers``.
    """
    pa = load_arrow()
    import pyarrow.compute as pc

    first = 0
    for chunk in chunks:
        check_complete(chunk, column, np.arange(first, first + len(chunk)))
        first += len(chunk)
    whole = pa.chunked_array(chunks)
    if pa.types.is_dictionary(whole.type):
        whole = whole.cast(whole.type.value_type)
    if not _is_text(whole.type):
        return numbers_of(whole, column), []
    for kind in (pa.int64(), pa.float64()):
        try:
            return whole.cast(kind).to_numpy(), []
        except pa.ArrowInvalid:
            continue
    classes = sorted(pc.unique(whole).to_pylist())
    return pc.index_in(whole, value_set=pa.array(classes, whole.type)).to_numpy().astype(np.int64), classes


def numbers_of(array: pa.Array | pa.ChunkedArray, column: str) -> np.ndarray:
    """A column of numbers without gaps, in its own type.

    Raises:
        DataError: ``not_numbers``.
    """
    if not is_number(array.type):
        raise DataError(
            f"the column {column[:80]!r} holds {str(array.type)[:80]}, not numbers", hint=TABLE_HINT,
            code="not_numbers", details={"column": column},
        )  # fmt: skip
    pa = load_arrow()
    plain = array.cast(pa.float64()) if pa.types.is_decimal(array.type) else array
    return np.asarray(plain.to_numpy(zero_copy_only=False) if isinstance(plain, pa.Array) else plain.to_numpy())


def check_complete(array: pa.Array, column: str, rows: np.ndarray) -> None:
    """Refuse a gap.

    Raises:
        DataError: ``missing_value``, with the row's number from ``rows``.
    """
    if array.null_count:
        raise missing_value(column, int(rows[int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))]))


def check_count(found: int, wanted: int) -> None:
    """Refuse fewer rows than were claimed.

    Raises:
        DataError: ``truncated_file``.
    """
    if found != wanted:
        reason = f"{found} of {wanted} rows are in the file"
        raise DataError(reason, hint="the file is damaged: save it again", code="truncated_file")


def common_dtype(types: Sequence[pa.DataType]) -> np.dtype[Any]:
    """The type of an array that holds columns of all these types."""
    pa = load_arrow()
    if len(set(types)) == 1 and not pa.types.is_decimal(types[0]):
        own = np.dtype(types[0].to_pandas_dtype())
        return own if own.kind in "iufb" else np.dtype(np.float64)
    whole = all(pa.types.is_integer(kind) or pa.types.is_boolean(kind) for kind in types)
    return np.dtype(np.int64 if whole and pa.uint64() not in types else np.float64)


def is_number(kind: pa.DataType) -> bool:
    """Whether cells of this type are numbers."""
    types = load_arrow().types
    return any(is_it(kind) for is_it in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal))


def _is_text(kind: pa.DataType) -> bool:
    types = load_arrow().types
    return any(is_it(kind) for is_it in (types.is_string, types.is_large_string, types.is_string_view))


def is_list(kind: pa.DataType) -> bool:
    """Whether cells of this type are lists."""
    types = load_arrow().types
    return any(is_it(kind) for is_it in (types.is_list, types.is_large_list, types.is_fixed_size_list))


def is_image(kind: pa.DataType) -> bool:
    """Whether cells of this type may be encoded images: bytes, or ``{bytes, path}``."""
    pa = load_arrow()
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and pa.types.is_binary(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def missing_value(column: str, row: int) -> DataError:
    """The error of a cell that is empty."""
    return DataError(
        f"the column {column[:80]!r} has no value in row {row}", hint=TABLE_HINT, code="missing_value",
        details={"row": row, "column": column},
    )  # fmt: skip
