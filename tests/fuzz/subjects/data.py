"""Data: every format looked at as an upload is."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.inspection import inspect_data
from tests.fuzz.subjects import Subject, add
from tests.fuzz.subjects.checkpoints import saved, zipped

X = np.random.default_rng(0).random((6, 4, 4)).astype(np.float32)
Y = np.arange(6)
TABLE = pa.table({"a": X[:, 0, 0], "b": [1, 2, 3, 4, 5, 6], "c": [True] * 6, "y": ["no", "yes"] * 3})
LISTS = pa.table({"x": pa.array(X.tolist(), pa.list_(pa.list_(pa.float32()))), "label": Y})
CODECS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "ppm": "PPM"}
DEFLATED = zipfile.ZIP_DEFLATED


def look(path: Path) -> object:
    found = inspect_data(path, "theirs")
    json.dumps(found.model_dump(mode="json"))
    return found


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def picture(codec: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((X[0] * 255).astype(np.uint8)).save(stream, codec)
    return stream.getvalue()


def sound(count: int) -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    body = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 2 * count) + bytes(2 * count)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def arrow(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def parquet(table: pa.Table, **options: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def arrays() -> dict[str, bytes]:
    members = {"x.npy": npy(X), "y.npy": npy(Y)}
    return {"stored": zipped(members), "deflated": zipped(members, DEFLATED)}


def tensors() -> dict[str, bytes]:
    pair = {"x": torch.tensor(X), "y": torch.tensor(Y)}
    return {"safetensors": save(pair), "torch": saved(pair)}


def tables() -> dict[str, bytes]:
    comma = b"a,b,y\n" + b"".join(b"%d,%.3f,%d\n" % (row, row / 7, row % 2) for row in range(20))
    quoted = b'"a";"the ""b""";y\n' + b"".join(b"%d;%.2f;k%d\n" % (row, row / 3, row % 3) for row in range(9))
    return {"comma": comma, "semicolon": quoted}


def columns() -> dict[str, bytes]:
    images = pa.table({"image": [{"bytes": picture("PNG"), "path": "a"}] * 6, "label": Y})
    return {"table": parquet(TABLE, row_group_size=2), "lists": parquet(LISTS, compression="zstd"),
            "images": parquet(images, compression="none")}  # fmt: skip


def datasets() -> dict[str, bytes]:
    state = b'{"_data_files": [{"filename": "data-0.arrow"}]}'
    return {"lists": zipped({"data-0.arrow": arrow(LISTS), "state.json": state}),
            "compressed": zipped({"data-0.arrow": arrow(TABLE, compression="zstd")}, DEFLATED)}  # fmt: skip


def images() -> dict[str, bytes]:
    found = {suffix: zipped({f"a/0.{suffix}": picture(codec), f"b/1.{suffix}": picture(codec)})
             for suffix, codec in CODECS.items()}  # fmt: skip
    two = {"0.png": picture("PNG"), "1.png": picture("PNG")}
    lists = {"labels.json": b'{"0.png": 1, "1.png": 0}', "labels.csv": b"file,label\n0.png,cat\n1.png,dog\n",
             "metadata.jsonl": b'{"file_name": "0.png", "label": 1}\n{"file_name": "1.png", "label": 0}\n'}  # fmt: skip
    return found | {name: zipped(two | {name: content}) for name, content in lists.items()}


def texts() -> dict[str, bytes]:
    lines = b'{"text": "a cat", "label": 1}\n{"text": "a dog\\n", "label": 0}\n'
    return {"json lines": lines * 3, "prose": "First line.\nÉ a second one, which goes on.\n".encode() * 5}


add("npy", Subject(lambda: {"array": npy(X)}, look, (DataError,)))
add("npz", Subject(arrays, look, (DataError,)))
add("tensors", Subject(tensors, look, (DataError,)))
add("csv", Subject(tables, look, (DataError,), "text"))
add("parquet", Subject(columns, look, (DataError,)))
add("arrow", Subject(datasets, look, (DataError,)))
add("wav", Subject(lambda: {"sounds": zipped({"a/0.wav": sound(9), "b/1.wav": sound(9)})}, look, (DataError,)))
add("images", Subject(images, look, (DataError,)))
add("texts", Subject(texts, look, (DataError,), "text"))
