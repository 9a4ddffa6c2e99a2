"""Folders as ``dataset.save_to_disk`` writes them: Arrow streams, ``state.json``, and the library's own metadata."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest

from quant_lens_engine.intake import inspect_file

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 6), dtype=np.uint8)


def stream(table, features=None, *, file=False, compression=None, rows=2):
    """A table as an Arrow stream, with what the datasets library notes in its schema."""
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def saved(name, *shards):
    """The members of one saved data set."""
    prefix = f"{name}/" if name else ""
    names = [f"data-{place:05}-of-{len(shards):05}.arrow" for place in range(len(shards))]
    state = {"_data_files": [{"filename": shard} for shard in names], "_fingerprint": "0", "_split": None}
    members = {prefix + shard: content for shard, content in zip(names, shards, strict=True)}
    return members | {prefix + "state.json": json.dumps(state).encode(), prefix + "dataset_info.json": b"{}"}


@pytest.fixture
def images(encode):
    def table(rows):
        cells = [{"bytes": encode(PIXELS[row]), "path": None} for row in rows]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.table({"image": pa.array(cells, kind), "label": pa.array([row % 2 for row in rows], pa.int64())})

    return table


FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def test_images_and_class_names(pack, read, images):
    path = pack(saved("", stream(images(range(3)), FEATURES), stream(images([3, 4]), FEATURES)))
    name, found = read(path)
    assert name == "huggingface"
    np.testing.assert_array_equal(found.x[:], PIXELS)
    np.testing.assert_array_equal(found.x[np.array([4, 0, 2])], PIXELS[[4, 0, 2]])
    assert found.y.tolist() == [0, 1, 0, 1, 0]
    assert "The column 'label' was taken as y: 0 = cat, 1 = dog." in found.notes
    seen = inspect_file(path, filename="theirs")
    assert np.array_equal(seen.preview, PIXELS)


def test_splits_of_a_dataset_dict(pack, read, images):
    members = saved("train", stream(images([0, 1, 2]))) | saved("test", stream(images([3, 4])))
    members |= {"dataset_dict.json": b'{"splits": ["train", "test"]}', "train/cache-12.arrow": b"not a stream"}
    _, found = read(pack(members))
    np.testing.assert_array_equal(found.x[:], PIXELS[[3, 4]])
    np.testing.assert_array_equal(found.calibration.x[:], PIXELS[:3])


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.list_(pa.float32())), pa.list_(pa.list_(pa.float32(), 6), 4), pa.large_list(pa.list_(pa.float32()))],
)
def test_arrays_in_lists(pack, read, kind):
    x = PIXELS.astype(np.float32)
    table = pa.table({"pixel_values": pa.array(x.tolist(), kind), "labels": [4, 3, 2, 1, 0]})
    _, found = read(pack(saved("", stream(table))))
    assert found.x.dtype == np.float32
    np.testing.assert_array_equal(found.x[:], x)
    np.testing.assert_array_equal(found.x[1::3], x[1::3])
    assert found.y.tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("options", [{"file": True}, {"compression": "zstd"}, {"compression": "lz4", "file": True}])
def test_other_forms_of_arrow(tmp_path, read, options):
    table = pa.table({"a": [1, 2, 3], "b": [4, 5, 6], "y": ["no", "yes", "no"]})
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data.arrow").write_bytes(stream(table, **options))
    _, found = read(tmp_path / "set")
    assert found.x[:].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert found.y.tolist() == [0, 1, 0]


def test_a_batch_is_looked_at_where_it_lies(tmp_path, read):
    table = pa.table(
        {"x": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4_000_000)), 1000), "y": np.arange(4000)}
    )
    (tmp_path / "data.arrow").write_bytes(stream(table, rows=100))
    _, found = read(tmp_path)
    before = pa.total_allocated_bytes()
    assert found.x[::1000].shape == (4, 1000)
    assert pa.total_allocated_bytes() - before < 1_000_000


# ---- refusals


def test_text_and_sound_columns(pack, refused, encode):
    refused(pack(saved("", stream(pa.table({"text": ["a", "b"], "label": [0, 1]})))), "not_numbers")
    sound = pa.table({"audio": [{"bytes": b"RIFF", "path": "a.wav"}], "label": [0]})
    path = pack(saved("", stream(sound, {"audio": {"_type": "Audio"}, "label": {"_type": "Value"}})), "sounds")
    assert "'audio' holds Audio" in refused(path, "not_numbers").message


def test_images_that_lie_elsewhere(pack, refused):
    cells = pa.array(
        [{"bytes": None, "path": "/etc/passwd"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    error = refused(pack(saved("", stream(pa.table({"image": cells, "label": [0]})))), "missing_value")
    assert "row 0 of the column 'image' is only a path" in error.message


def test_an_image_that_is_none(pack, refused, encode):
    cells = [{"bytes": encode(PIXELS[0]), "path": None}, {"bytes": b"no", "path": None}]
    error = refused(pack(saved("", stream(pa.table({"image": cells, "label": [0, 1]})))), "bad_image")
    assert "'image of row 1'" in error.message


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"no stream at all, but long enough to be one"])
def test_no_arrow_at_all(pack, refused, content):
    error = refused(pack({"data-0.arrow": content}), "bad_arrow")
    assert "'data-0.arrow'" in error.message


def test_shards_that_differ(pack, refused):
    one, other = pa.table({"a": [1], "y": [0]}), pa.table({"b": [1], "y": [0]})
    error = refused(pack(saved("", stream(one), stream(other))), "bad_arrow")
    assert "has other columns than 'data-00000-of-00002.arrow'" in error.message


@pytest.mark.parametrize("state", [b"{", b"[]", b'{"_data_files": 3}', b'{"_data_files": [{"filename": ["a"]}]}'])
def test_a_state_that_is_none(pack, refused, state):
    members = saved("", stream(pa.table({"a": [1], "y": [0]}))) | {"state.json": state}
    assert "state.json" in refused(pack(members), "bad_arrow").message


def test_a_state_that_names_files_elsewhere(pack, read):
    members = saved("", stream(pa.table({"a": [1], "y": [0]})))
    members["state.json"] = b'{"_data_files": [{"filename": "../../../etc/passwd"}, {"filename": "/etc/passwd"}]}'
    assert read(pack(members))[1].x[:].tolist() == [[1]]  # they are not there; what is there is read
