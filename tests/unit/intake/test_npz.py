"""Data files: honest ones in every form, and those that lie about themselves."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake import inspect_file, read_arrays


def refused(path, code):
    with pytest.raises(DataError) as caught:
        inspect_file(path, filename="theirs.npz")
    error = caught.value
    assert error.code == code, error.as_dict()
    assert error.message.startswith("theirs.npz")
    assert error.hint
    assert str(path.parent) not in json.dumps(error.as_dict())
    return error


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, np.float64, np.bool_])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_they_were(tmp_path, save, dtype, order):
    x = np.asarray((np.random.default_rng(0).random((7, 5, 4, 3)) * 200).astype(dtype), order=order)
    y = np.arange(7)
    save(tmp_path / "d.npz", x=x, y=y)
    name, found = read_arrays(tmp_path / "d.npz", "d.npz")
    assert name == "npz"
    assert found.x.dtype == x.dtype
    np.testing.assert_array_equal(found.x, x)
    np.testing.assert_array_equal(found.y, y)


def test_an_uncompressed_array_is_mapped_not_read(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((2000, 5000), np.float32), y=np.zeros(2000, np.int64))
    tracemalloc.start()
    _, found = read_arrays(tmp_path / "d.npz", "d.npz")
    chosen = found.x[[1, 1999]]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert chosen.shape == (2, 5000)
    assert peak < 4_000_000


def test_other_names_are_taken_and_said(tmp_path):
    np.savez(tmp_path / "d.npz", images=np.zeros((3, 2)), labels=np.arange(3))
    _, found = read_arrays(tmp_path / "d.npz", "d.npz")
    assert found.notes == ("The array 'images' was taken as x.", "The array 'labels' was taken as y.")


def test_big_endian_numbers(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(6, dtype=">f4").reshape(3, 2), y=np.arange(3, dtype=">i8"))
    _, found = read_arrays(tmp_path / "d.npz", "d.npz")
    assert found.x.astype(np.float32).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_the_inspection_of_images(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.savez_compressed(tmp_path / "d.npz", x=x, y=np.arange(40, dtype=np.uint8) % 4)
    found = inspect_file(tmp_path / "d.npz")
    assert (found.samples, found.x_shape, found.x_dtype, found.classes) == (40, [40, 32, 32, 3], "uint8", 4)
    assert (found.suggested_layout, found.suggested_scale) == ("NHWC", 1 / 255)
    assert found.label_counts == {"0": 10, "1": 10, "2": 10, "3": 10}
    assert np.array_equal(found.preview, x[:12])
    assert found.preview_labels == [0, 1, 2, 3] * 3


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((9, 28, 28), "NHW"), ((9, 3, 32, 32), "NCHW"), ((9, 32, 32, 1), "NHWC"), ((9, 1, 8, 8), "NCHW"), ((9, 64), None)],
)
def test_the_layout_that_is_suggested(tmp_path, shape, layout):
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).random(shape), y=np.zeros(9, int))
    found = inspect_file(tmp_path / "d.npz")
    assert (found.suggested_layout, found.suggested_scale) == (layout, 1.0)
    assert len(found.preview) == (9 if layout else 0)


def test_what_the_inspection_warns_of(tmp_path):
    x = np.ones((4, 3), np.float32)
    x[2, 1] = np.nan
    np.savez(tmp_path / "d.npz", x=x)
    notes = " ".join(inspect_file(tmp_path / "d.npz").notes)
    assert "NaN" in notes
    assert "no labels" in notes
    np.savez(tmp_path / "d.npz", x=np.ones((4, 3)), y=np.ones(3, int))
    assert "3 labels for 4 rows" in " ".join(inspect_file(tmp_path / "d.npz").notes)


# ---- lies


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}, None], dtype=object), y=np.arange(2))
    assert "not opened" in refused(tmp_path / "d.npz", "object_array").message
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 2)), y=np.array(["cat", "dog"], dtype=object))
    refused(tmp_path / "d.npz", "object_array")


def test_text_is_not_numbers(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 2)), y=np.array(["cat", "dog"]))
    refused(tmp_path / "d.npz", "not_numbers")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_claims_64_gib(tmp_path, compression):
    content = npy(np.zeros((4, 4), np.float32)).replace(b"(4, 4), ", b"(17179869184,), ".ljust(8))
    header = content[10 : 10 + struct.unpack("<H", content[8:10])[0] + 8]
    lie = content[:8] + struct.pack("<H", len(header)) + header + bytes(64)
    path = archive(tmp_path / "d.npz", {"x.npy": lie, "y.npy": npy(np.arange(4))}, compression)
    refused(path, "bad_npz")


def test_a_bomb(tmp_path):
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as member:
        member.write(npy(np.zeros(0))[:0])
        for _ in range(100):
            member.write(bytes(1 << 20))
    tracemalloc.start()
    refused(path, "npz_bomb")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("header", [b"{'descr': ", b"__import__('os').system('true')", b"[" * 5000, b"\xff" * 60])
def test_malformed_headers(tmp_path, header):
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    refused(archive(tmp_path / "d.npz", {"x.npy": content, "y.npy": npy(np.arange(4))}), "bad_npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kept", [0.2, 0.8, 0.999])
def test_a_truncated_file(tmp_path, save, kept):
    save(tmp_path / "d.npz", x=np.random.default_rng(0).random((50, 64)), y=np.arange(50))
    content = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(content[: int(len(content) * kept)])
    refused(tmp_path / "d.npz", "truncated_file")


def test_damaged_compressed_data(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", x=np.random.default_rng(0).random((50, 64)), y=np.arange(50))
    content = bytearray((tmp_path / "d.npz").read_bytes())
    content[2000:2100] = bytes(100)
    (tmp_path / "d.npz").write_bytes(content)
    refused(tmp_path / "d.npz", "truncated_file")


def test_rows_are_missing(tmp_path):
    np.savez(tmp_path / "d.npz", a=np.zeros(3), b=np.zeros(3))
    assert "a, b" in refused(tmp_path / "d.npz", "missing_array").message


def test_empty_data(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((0, 3)), y=np.zeros(0, int))
    refused(tmp_path / "d.npz", "empty_data")


# ---- hints


@pytest.mark.parametrize(
    ("x", "scale", "hint"),
    [
        (
            np.full((4, 8, 8), 16, np.uint8),
            1 / 255,
            "Values reach only 16: if 16 is full brightness, set the scale 1/16.",
        ),
        (np.full((4, 8, 8), 240.0), 1 / 255, "Values lie between 0 and 255: set the scale 1/255"),
        (np.full((4, 8, 8, 3), 255, np.uint8), 1 / 255, "The last axis has 3: channels come last."),
        (np.full((4, 3, 8, 8), 0.5), 1.0, None),
        (np.full((4, 3, 8, 8), -1.0), 1.0, None),
        (np.full((4, 64), 200.0), 1.0, None),
    ],
)
def test_a_layout_or_scale_that_looks_wrong_is_said(tmp_path, x, scale, hint):
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(4))
    found = inspect_file(tmp_path / "d.npz")
    assert found.suggested_scale == scale
    assert any(note.startswith(hint) for note in found.notes) if hint else found.notes == []
