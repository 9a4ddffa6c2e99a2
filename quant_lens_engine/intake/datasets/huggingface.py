"""A data set as the Hugging Face ``datasets`` library saves it to disk: Arrow streams beside two JSON files.

https://huggingface.co/docs/datasets/about_arrow
"""

from __future__ import annotations

import json
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

_FILE_MAGIC = b"ARROW1"
_MAX_STATE_BYTES = 1 << 20
_HINT = "save it again: dataset.save_to_disk('folder'), with datasets 2.0 or later"


class StreamSource(ArrowSource):
    """Arrow streams or files with the same columns, mapped: a batch is looked at where it lies."""

    def __init__(self, tree: Tree, names: Sequence[str]) -> None:
        self._buffers = {name: buffer_of(tree, name) for name in names}
        schemas = []
        for name in names:
            schemas.append(self._schema(name))
            if not schemas[-1].equals(schemas[0]):
                raise _bad(name, f"has other columns than {names[0]!r}")
        self.schema = schemas[0]
        self.rows = 0
        if self.schema.names:
            self.rows = sum(batch.num_rows for name in names for batch in self._read(name, [self.schema.names[0]]))

    def batches(self, columns: Sequence[str], rows: np.ndarray | None = None) -> Iterator[pa.RecordBatch]:
        """Those batches that hold rows asked for."""
        first = 0
        for name in self._buffers:
            for batch in self._read(name, columns):
                last = first + batch.num_rows
                wanted = (
                    None if rows is None else rows[np.searchsorted(rows, first) : np.searchsorted(rows, last)] - first
                )
                first = last
                if wanted is None:
                    yield batch
                elif len(wanted):
                    yield batch.take(load_arrow().array(wanted))

    def _schema(self, name: str) -> Any:
        try:
            with _reader(self._buffers[name], None) as reader:
                return readable(reader.schema)
        except Exception as error:
            raise _bad(name, f"is no Arrow file ({first_line(error)})") from None

    def _read(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Each batch with these columns, checked: a wild offset would be followed without a look."""
        try:
            fields = [self.schema.get_field_index(column) for column in columns]
            batches = _batches(self._buffers[name], sorted(fields))
        except Exception as error:
            raise _bad(name, f"cannot be read ({first_line(error)})") from None
        yield from validated(batches, lambda said: _bad(name, f"cannot be read ({said})"))


def _reader(buffer: pa.Buffer, fields: list[int] | None) -> Any:
    pa = load_arrow()
    options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False, ensure_native_endian=True)
    is_file = buffer.size > len(_FILE_MAGIC) and buffer[: len(_FILE_MAGIC)].to_pybytes() == _FILE_MAGIC
    return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(pa.BufferReader(buffer), options=options)


def _batches(buffer: pa.Buffer, fields: list[int]) -> Iterator[Any]:
    reader = _reader(buffer, fields)
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(place) for place in range(reader.num_record_batches))
    return iter(reader)


def _data_files(tree: Tree) -> list[str]:
    """The Arrow files that ``state.json`` names, or all but the library's caches."""
    listed: list[str] = []
    for state in tree.ending("state.json"):
        folder = state[: -len("state.json")]
        try:
            files = json.loads(tree.read(state, _MAX_STATE_BYTES))["_data_files"]
            listed += [name for file in files if (name := folder + file["filename"]) in tree.sizes]
        except Exception as error:  # of the archive's libraries, the decoder or a wrong type
            raise _bad(state, f"cannot be understood ({error.__class__.__name__})") from None
    others = [name for name in tree.ending(".arrow") if not name.rpartition("/")[2].startswith(("cache-", "tmp"))]
    return listed or others


def _bad(name: str, reason: str) -> DataError:
    return DataError(f"{name[:120]!r} {reason}", hint=_HINT, code="bad_arrow", details={"member": name})


def _recognises(given: Given) -> bool:
    return given.head.startswith(_FILE_MAGIC) or any(name.endswith(".arrow") for name in given.names)


def _read(given: Given) -> Arrays:
    tree = given.tree("folder" if given.path.is_dir() else "zip")
    files = list(tree.sizes) if given.head.startswith(_FILE_MAGIC) else _data_files(tree)
    if not files:
        raise DataError("there is no Arrow file in it but caches", hint=_HINT, code="missing_array")
    evaluated, training, notes = split_members(files)
    found = arrays_of(StreamSource(tree, evaluated))
    calibration = arrays_of(StreamSource(tree, training)) if training else None
    return replace(found, notes=(*notes, *found.notes), calibration=calibration)


DATA_FORMATS.add(
    "huggingface",
    DataFormat(_recognises, _read, (".arrow",), "folder or zip of a Hugging Face data set: dataset.save_to_disk()"),
)
