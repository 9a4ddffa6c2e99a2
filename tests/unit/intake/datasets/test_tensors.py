"""numpy files beside one another, safetensors and torch files of x and y: mapped, never opened."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from quant_lens_engine.intake import inspect_file

X = torch.arange(24, dtype=torch.float32).reshape(6, 4)
Y = torch.arange(6)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


class Planted:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# ---- npy


def test_a_pair_in_a_folder_or_zip(pack, read):
    name, found = read(pack({"set/x.npy": npy(X.numpy()), "set/labels.npy": npy(Y.numpy()), "set/notes.txt": b"."}))
    assert name in ("npy", "npz")
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.y, Y)
    assert found.notes == ("The array 'labels' was taken as y.", "Not read: set/notes.txt.")


def test_a_single_array_has_no_labels(tmp_path, read):
    (tmp_path / "rows").write_bytes(npy(X.numpy()))
    name, found = read(tmp_path / "rows")
    assert (name, found.y) == ("npy", None)
    np.testing.assert_array_equal(found.x, X)
    assert "y.npy" in found.notes[0]


def test_34_and_35_objects_are_not_unpickled(tmp_path, pack, refused):
    canary = tmp_path / "canary"
    planted = npy(np.array([Planted(os.system, f"touch {canary}")], dtype=object))
    (tmp_path / "rows").write_bytes(planted)
    refused(tmp_path / "rows", "object_array")
    refused(pack({"x.npy": planted, "y.npy": npy(np.arange(1))}), "object_array")
    refused(pack({"x.npy": npy(X.numpy()), "y.npy": planted}, "other"), "object_array")
    assert not canary.exists()


@pytest.mark.parametrize("shape", ["(17179869184,)", "(4294967296, 0)", f"({2**60}, 0)", "(-4, 4)"])
def test_36_a_header_that_claims_64_gib(pack, refused, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    data = b"" if "0)" in shape else bytes(64)
    if shape == "(4294967296, 0)":
        error = refused(path := pack({"x.npy": content, "y.npy": npy(np.arange(4))}), "empty_data",
                        lambda: inspect_file(path, filename="theirs"))  # fmt: skip
        assert "no rows" in error.message
        return
    refused(pack({"x.npy": content + data, "y.npy": npy(np.arange(4))}), "bad_npz")


def test_37_a_bomb_of_zeros(tmp_path, refused):
    import zipfile

    with zipfile.ZipFile(tmp_path / "theirs", "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as member:
        for _ in range(100):
            member.write(bytes(1 << 20))
    tracemalloc.start()
    refused(tmp_path / "theirs", "npz_bomb")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


# ---- safetensors and torch


def save_safetensors(value, path):
    save_file(value if isinstance(value, dict) else dict(zip("xy", value, strict=False)), path)


@pytest.mark.parametrize("save", [torch.save, save_safetensors])
@pytest.mark.parametrize(
    "value",
    [{"x": X, "y": Y}, (X, Y), [X, Y], {"images": X, "labels": Y, "ids": Y + 100}, (X.half(), Y.to(torch.uint8))],
)
def test_rows_and_labels(tmp_path, read, save, value):
    save(value, tmp_path / "rows")
    name, found = read(tmp_path / "rows")
    assert name == ("torch" if save is torch.save else "safetensors")
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.y, Y)
    assert ("Not read: ids." in found.notes) == ("ids" in value if isinstance(value, dict) else False)


def test_views_are_read_as_views(tmp_path, read):
    wide = torch.arange(48, dtype=torch.float32).reshape(6, 8)
    torch.save((wide.T[2:6].T, Y), tmp_path / "rows")
    _, found = read(tmp_path / "rows")
    np.testing.assert_array_equal(found.x, wide[:, 2:6])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_types_that_numpy_lacks_become_float32(tmp_path, read, dtype):
    narrow = X.to(dtype)
    torch.save((narrow, Y), tmp_path / "rows")
    _, found = read(tmp_path / "rows")
    assert found.x.dtype == np.float32
    np.testing.assert_array_equal(found.x, narrow.float())


@pytest.mark.parametrize("save", [torch.save, save_safetensors])
def test_only_the_rows_used_are_read(tmp_path, read, save):
    save({"x": torch.zeros(2000, 5000), "y": torch.zeros(2000, dtype=torch.long)}, tmp_path / "rows")
    tracemalloc.start()
    _, found = read(tmp_path / "rows")
    assert found.x[[1, 1999]].shape == (2, 5000)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_a_pickle_with_code_is_neither_data_nor_run(tmp_path, refused):
    canary = tmp_path / "canary"
    torch.save({"x": X, "y": Planted(os.system, f"touch {canary}")}, tmp_path / "rows")
    assert "posix.system" in refused(tmp_path / "rows", "pickle_with_code").message
    assert not canary.exists()


def test_arrays_in_a_torch_file_are_not_tensors(tmp_path, refused):
    torch.save({"x": X.numpy(), "y": Y.numpy()}, tmp_path / "rows")
    assert "as tensors" in refused(tmp_path / "rows", "pickle_with_code").hint


@pytest.mark.parametrize("save", [torch.save, save_safetensors])
def test_a_model_is_not_data(tmp_path, refused, save):
    save({"head.weight": X, "head.bias": torch.zeros(6)}, tmp_path / "model")
    assert "head.weight" in refused(tmp_path / "model", "missing_array").message
    assert inspect_file(tmp_path / "model").kind == "checkpoint"


def test_complex_numbers_are_refused(tmp_path, refused):
    torch.save((torch.zeros(2, 2, dtype=torch.complex64), Y[:2]), tmp_path / "rows")
    refused(tmp_path / "rows", "not_numbers")


def test_a_view_that_claims_more_than_the_file_has(tmp_path, refused):
    torch.save((torch.zeros(1).expand(2**40), Y), tmp_path / "rows")
    refused(tmp_path / "rows", "tensor_out_of_bounds")
