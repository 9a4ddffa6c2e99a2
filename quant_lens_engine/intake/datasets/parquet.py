"""Parquet: one file, or a folder or zip of shards; only the row groups of the rows used are decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, DataFormat, Given
from quant_lens_engine.intake.datasets.arrow_batches import first_line, validated
from quant_lens_engine.intake.datasets.arrow_columns import ArrowSource, buffer_of, load_arrow, readable
from quant_lens_engine.intake.datasets.arrow_rows import arrays_of
from quant_lens_engine.intake.datasets.splits import split_members
from quant_lens_engine.intake.tree import Tree

if TYPE_CHECKING:
    import pyarrow as pa

_MAGIC = b"PAR1"
_BATCH_ROWS = 4096
_MAX_FOOTER_BYTES = 64 << 20
_HINT = "save it again, for example with pandas: frame.to_parquet('data.parquet')"


class ParquetSource(ArrowSource):
    """Files with the same columns, one after the other."""

    def __init__(self, tree: Tree, names: Sequence[str]) -> None:
        load_arrow()
        self._files = [_opened(tree, name) for name in names]
        self._names = names
        self.schema = self._files[0].schema_arrow
        for name, file in zip(names, self._files, strict=True):
            if not file.schema_arrow.equals(self.schema):
                raise _bad(name, f"has other columns than {names[0]!r}")
        self.rows = sum(file.metadata.num_rows for file in self._files)

    def batches(self, columns: Sequence[str], rows: np.ndarray | None = None) -> Iterator[pa.RecordBatch]:
        """Decoded in batches of a few thousand rows, in one thread."""
        first = 0
        for name, file in zip(self._names, self._files, strict=True):
            for group in range(file.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                wanted = (
                    None if rows is None else rows[np.searchsorted(rows, first) : np.searchsorted(rows, last)] - first
                )
                if wanted is None or len(wanted):
                    yield from self._of_group(file, group, columns, wanted, name)
                first = last

    def _of_group(
        self, file: Any, group: int, columns: Sequence[str], wanted: np.ndarray | None, name: str
    ) -> Iterator[pa.RecordBatch]:
        first = 0
        found = file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(columns), use_threads=False)
        for batch in validated(found, lambda said: _bad(name, f"cannot be decoded ({said})")):
            chosen = None if wanted is None else wanted[(wanted >= first) & (wanted < first + batch.num_rows)] - first
            first += batch.num_rows
            if chosen is None or len(chosen):
                yield batch if chosen is None else batch.take(load_arrow().array(chosen))


def _opened(tree: Tree, name: str) -> Any:
    pa = load_arrow()
    import pyarrow.parquet as pq

    buffer = buffer_of(tree, name)
    if buffer.size < 12 or buffer[-4:].to_pybytes() != _MAGIC:
        raise _bad(name, "has no end: it was cut off", "truncated_file")
    if int.from_bytes(buffer[-8:-4].to_pybytes(), "little") > min(_MAX_FOOTER_BYTES, buffer.size):
        raise _bad(name, "claims a footer that is larger than the file, or than 64 MiB")
    try:
        file = pq.ParquetFile(
            pa.BufferReader(buffer), pre_buffer=False, thrift_string_size_limit=_MAX_FOOTER_BYTES,
            thrift_container_size_limit=1 << 20,
        )  # fmt: skip
        readable(file.schema_arrow)
    except Exception as error:
        raise _bad(name, f"is no sound Parquet file ({first_line(error)})") from None
    return file


def _bad(name: str, reason: str, code: str = "bad_parquet") -> DataError:
    return DataError(f"{name[:120]!r} {reason}", hint=_HINT, code=code, details={"member": name})


def _recognises(given: Given) -> bool:
    return given.head.startswith(_MAGIC) or any(name.endswith(".parquet") for name in given.names)


def _read(given: Given) -> Arrays:
    tree = given.tree("folder" if given.path.is_dir() else "zip")
    names = tree.ending(".parquet") or list(tree.sizes)
    evaluated, training, notes = split_members(names)
    found = arrays_of(ParquetSource(tree, evaluated))
    calibration = arrays_of(ParquetSource(tree, training)) if training else None
    return replace(found, notes=(*notes, *found.notes), calibration=calibration)


DATA_FORMATS.add("parquet", DataFormat(_recognises, _read, (".parquet",), "Parquet: a table with a column y"))
