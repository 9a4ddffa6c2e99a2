"""Data files of several kinds through a real worker: inspected and run within the engine process's limits."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import time
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from quant_lens_engine.intake.datasets.digits import digits_split
from worker import queue

pytestmark = pytest.mark.integration

HELD_OUT = digits_split()[1]
BYTES = (HELD_OUT.x[:, 0] * 16).astype(np.uint8)


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def images():
    members = {"labels.csv": "".join(f"{row:03}.png,{label}\n" for row, label in enumerate(HELD_OUT.y))}
    for row, pixels in enumerate(BYTES):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        members[f"{row:03}.png"] = stream.getvalue()
    return zipped(members)


def parquet():
    columns = {f"p{place}": HELD_OUT.x.reshape(-1, 64)[:, place] for place in range(64)}
    stream = io.BytesIO()
    pq.write_table(pa.table(columns | {"y": HELD_OUT.y}), stream)
    return stream.getvalue()


def huggingface():
    table = pa.table({"image": pa.array(BYTES.tolist(), pa.list_(pa.list_(pa.uint8()))), "label": HELD_OUT.y})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    return zipped({"data-00000-of-00001.arrow": sink.getvalue(), "state.json": json.dumps(state)})


def bomb():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return zipped(
        {"a/bomb.png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))}
    )


PICTURES = {"layout": "NHW", "scale": 0.0625}


@pytest.mark.parametrize(
    ("name", "content", "shape", "transform"),
    [
        ("images", images, [360, 8, 8], PICTURES),
        ("parquet", parquet, [360, 64], {}),
        ("huggingface", huggingface, [360, 8, 8], PICTURES),
    ],
)
def test_data_is_inspected_and_run(shared_house, tmp_path, name, content, shape, transform):
    sha256 = upload(shared_house, tmp_path, content())
    record = shared_house.store.files.get(sha256)
    assert record.inspection_state == "done", record
    assert (record.inspection["format"], record.inspection["x_shape"]) == (name, shape)
    assert record.inspection["classes"] == 10
    data = {"file": sha256, "limit": 64, "transform": transform}
    run = shared_house.wait(shared_house.submit(data=data, schemes=["int8"]))
    assert run.state == "DONE", (run, shared_house.log())


def test_an_image_that_is_a_bomb_is_refused_and_the_worker_goes_on(shared_house, tmp_path):
    record = shared_house.store.files.get(upload(shared_house, tmp_path, bomb()))
    assert record.inspection_state == "failed"
    assert record.error.code == "image_too_large"
    assert "a/bomb.png" in record.error.message
    assert shared_house.store.files.get(upload(shared_house, tmp_path, parquet())).inspection_state == "done"


def upload(house, tmp_path, content):
    sha256 = hashlib.sha256(content).hexdigest()
    (tmp_path / "part").write_bytes(content)
    house.store.files.add(tmp_path / "part", sha256, "theirs", "local")
    queue.inspect(house.store, sha256)
    deadline = time.monotonic() + 60
    while house.store.files.get(sha256).inspection_state in {"waiting", "running"}:
        assert time.monotonic() < deadline, house.log()
        time.sleep(0.05)
    return sha256
