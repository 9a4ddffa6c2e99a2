"""Files that want to run code, to take all memory, or that are simply broken: each has its typed answer.

Nothing here may be deserialised: the canary file that the malicious ones would write is looked for after each.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import time
import tracemalloc
import zipfile

import pytest
import torch
from torch import nn

from quant_lens_engine.errors import CheckpointError, InputError
from quant_lens_engine.intake import inspect_file, open_checkpoint
from quant_lens_engine.intake.formats.layout import MAX_TENSORS


class Planted:
    """Pickles to a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code in the file was run"


def refused(path, code):
    """The file is refused with ``code``, with a hint, and without a path of this machine; the error is returned."""
    with pytest.raises(InputError) as caught:
        inspect_file(path, filename="theirs.pt")
    error = caught.value
    assert error.code == code, error.as_dict()
    assert error.message.startswith("theirs.pt")
    assert error.hint
    assert str(path.parent) not in json.dumps(error.as_dict())
    return error


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


# ---- code


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("where", ["root", "value", "key"])
def test_a_pickle_with_code(tmp_path, canary, legacy, where):
    planted = Planted(os.system, f"touch {canary}")
    value = {"root": planted, "value": {"w": torch.zeros(2), "x": planted}, "key": {("k", planted): torch.zeros(2)}}[
        where
    ]
    path = tmp_path / "m.pt"
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    error = refused(path, "pickle_with_code")
    assert "posix.system" in error.details["names"]
    assert "state_dict()" in error.hint


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_with_code(tmp_path, canary, protocol):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"w": Planted(os.system, f"touch {canary}")}, protocol=protocol))
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert caught.value.code in ("pickle_with_code", "not_a_checkpoint")  # protocols 0 and 1 have no magic
    assert caught.value.hint


def test_names_from_the_memo_are_seen(tmp_path, canary):
    """STACK_GLOBAL whose parts were memoized under other instructions."""
    program = (b"\x80\x04" + b"\x8c\x06system\x94" + b"0" + b"\x8c\x05posix\x94" + b"0" + b"h\x01h\x00\x93"
               + b"\x8c" + bytes([len(str(canary)) + 6]) + f"touch {canary}".encode() + b"\x85R.")  # fmt: skip
    path = archive(tmp_path / "m.pt", [("m/data.pkl", program), ("m/version", "3")])
    assert "posix.system" in refused(path, "pickle_with_code").details["names"]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_full_pickled_module(tmp_path, legacy):
    path = tmp_path / "m.pt"
    torch.save(Network(), path, _use_new_zipfile_serialization=not legacy)
    error = refused(path, "pickled_module")
    assert "torch.save(model.state_dict()" in error.hint


@pytest.mark.filterwarnings("ignore")
def test_torchscript(tmp_path):
    path = tmp_path / "m.pt"
    torch.jit.script(nn.Linear(2, 2)).save(path)
    refused(path, "torchscript")


def test_a_tar(tmp_path):
    path = tmp_path / "m.pt"
    with tarfile.open(path, "w") as file:
        content = pickle.dumps({})
        entry = tarfile.TarInfo("pickle")
        entry.size = len(content)
        file.addfile(entry, io.BytesIO(content))
    refused(path, "tar_archive")


# ---- memory and time


def refused_cheaply(path, code, limit_bytes=50_000_000):
    tracemalloc.start()
    try:
        error = refused(path, code)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit_bytes
    return error


def test_a_claimed_bytearray(tmp_path):
    path = archive(tmp_path / "m.pt", [("m/data.pkl", pickle.dumps(Planted(bytearray, 8 << 30), protocol=2))])
    refused_cheaply(path, "pickle_with_code")


def test_a_hash_bomb_is_never_hashed(tmp_path):
    key = ()
    for _ in range(28):
        key = (key, key)
    path = tmp_path / "m.pt"
    torch.save({"w": torch.zeros(2)}, path)
    program = io.BytesIO()
    pickler = pickle._Pickler(program, protocol=2)  # the Python one: writes a dict without hashing anew
    pickler.dump([key, 1])
    text = program.getvalue().replace(b"]q", b"}q", 1).replace(b"K\x01e.", b"K\x01u.")
    path = archive(path, [("m/data.pkl", text)])
    refused_cheaply(path, "no_tensors")


def test_laughs(tmp_path):
    laughs = ["ha"]
    for _ in range(40):
        laughs = [laughs] * 10
    path = tmp_path / "m.pt"
    torch.save({"lol": laughs, "w": torch.zeros(2)}, path)
    assert open_checkpoint(path).tensors.keys() == {"w"}
    torch.save({"lol": laughs, "w": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    assert open_checkpoint(path).tensors.keys() == {"w"}


@pytest.mark.parametrize("opening", [b"]", b"("])
def test_nesting_without_end(tmp_path, opening):
    path = archive(tmp_path / "m.pt", [("m/data.pkl", b"\x80\x02" + opening * 2_000_000 + b".")])
    started = time.process_time()
    refused(path, "bad_pickle")
    assert time.process_time() - started < 15


def rewritten(path, change):
    """A torch file with its pickle changed: same members, same storages."""
    with zipfile.ZipFile(path) as file:
        members = [(entry.filename, file.read(entry)) for entry in file.infolist()]
    return archive(path, [(name, change(body) if name.endswith("data.pkl") else body) for name, body in members])


def test_a_stride_that_claims_terabytes(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"w": torch.zeros(1)}, path)
    torch.save({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}, path)
    refused_cheaply(path, "tensor_out_of_bounds")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"K\x00K\x04\x85", b"K\x02K\x04\x85", id="start beyond the storage"),
        pytest.param(b"K\x00K\x04\x85", b"K\x00K\x05\x85", id="longer than the storage"),
        pytest.param(b"K\x00K\x04\x85", b"J\xff\xff\xff\xffK\x04\x85", id="negative start"),
        pytest.param(b"K\x01\x85", b"K\x03\x85", id="stride beyond the storage"),
        pytest.param(b"K\x01\x85", b"J\xff\xff\xff\xff\x85", id="negative stride"),
    ],
)
def test_views_outside_their_storage(tmp_path, before, after):
    path = tmp_path / "m.pt"
    torch.save({"w": torch.arange(4.0)}, path)

    def change(program):
        assert program.count(before) == 1
        return program.replace(before, after)

    refused(rewritten(path, change), "tensor_out_of_bounds")


def test_a_storage_that_is_not_what_it_claims(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"w": torch.arange(4.0)}, path)
    refused(rewritten(path, lambda program: program.replace(b"K\x04tq", b"K\x09tq")), "storage_mismatch")


def test_a_storage_that_is_not_there(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"w": torch.arange(4.0)}, path)
    with zipfile.ZipFile(path) as file:
        members = [(name, file.read(name)) for name in file.namelist() if "/data/" not in name]
    refused(archive(path, members), "storage_mismatch")


# ---- legacy files


@pytest.fixture
def legacy(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"w": torch.arange(4.0)}, path, _use_new_zipfile_serialization=False)
    return path


def test_a_legacy_file_without_its_storage(legacy):
    """torch would answer with memory that was never written."""
    legacy.write_bytes(legacy.read_bytes()[:-24])
    refused(legacy, "storage_mismatch")


def test_a_legacy_file_that_claims_a_terabyte(legacy):
    content = legacy.read_bytes()
    legacy.write_bytes(content[:-24] + struct.pack("<q", 1 << 40) + content[-16:])
    refused_cheaply(legacy, "storage_mismatch")


@pytest.mark.parametrize(("cut", "code"), [(1, "truncated_file"), (10, "truncated_file"), (-5, "storage_mismatch")])
def test_a_legacy_file_cut_off_or_longer(legacy, cut, code):
    content = legacy.read_bytes()
    legacy.write_bytes(content[:-cut] if cut > 0 else content + b"extra")
    refused(legacy, code)


# ---- zips


def test_a_deflated_member(tmp_path, state):
    path = tmp_path / "m.pt"
    torch.save(state, path)
    with zipfile.ZipFile(path) as file:
        members = [(name, file.read(name)) for name in file.namelist()]
    refused(archive(path, members, zipfile.ZIP_DEFLATED), "compressed_member")


def test_a_zip_bomb(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("m/data/0", "w") as member:
        for _ in range(100):
            member.write(bytes(1 << 20))
    refused_cheaply(path, "zip_bomb")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_programs(tmp_path):
    path = archive(
        tmp_path / "m.pt", [("m/data.pkl", b"\x80\x02}."), ("m/data.pkl", b"\x80\x02]."), ("n/data.pkl", b"")]
    )
    refused(path, "bad_zip")
    refused(archive(path, [("m/data.pkl", b"\x80\x02}."), ("n/data.pkl", b"\x80\x02}.")]), "not_a_checkpoint")


@pytest.mark.parametrize("name", ["../data.pkl", "/m/data.pkl", "m/../../x", "C:\\x\\data.pkl"])
def test_members_that_point_outside(tmp_path, name):
    refused(archive(tmp_path / "m.pt", [(name, b"\x80\x02}.")]), "bad_zip")


def test_a_symlink_member(tmp_path):
    entry = zipfile.ZipInfo("m/data/0")
    entry.external_attr = 0o120777 << 16
    refused(archive(tmp_path / "m.pt", [("m/data.pkl", b"\x80\x02}."), (entry, "/etc/passwd")]), "bad_zip")


def test_header_and_directory_disagree(tmp_path, state):
    path = tmp_path / "m.pt"
    archive(path, [("m/data.pkl", b"\x80\x02}."), ("m/data/0", b"abcd")])
    content = path.read_bytes()
    path.write_bytes(content.replace(b"m/data/0", b"m/data/1", 1))
    refused(path, "bad_zip")


def test_something_before_the_archive(tmp_path):
    path = archive(tmp_path / "m.pt", [("m/data.pkl", b"\x80\x02}.")])
    path.write_bytes(b"PK\x03\x04polyglot" + path.read_bytes())
    refused(path, "bad_zip")


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_zip(tmp_path, state, kept):
    path = tmp_path / "m.pt"
    torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    error = refused(path, "truncated_file")
    assert "upload it again" in error.hint


@pytest.mark.parametrize("gap", [1, 40, 400])
def test_bytes_lost_in_the_middle(tmp_path, state, gap):
    """The directory then points before the file's first byte."""
    path = tmp_path / "m.pt"
    torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[:300] + content[300 + gap :])
    refused(path, "truncated_file")


# ---- safetensors


def safetensors_file(path, header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def entry(shape, first, last, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("header", "body"),
    [
        pytest.param({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12), id="overlap"),
        pytest.param({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12), id="hole"),
        pytest.param({"a": entry([3], 0, 8)}, bytes(8), id="shape and bytes differ"),
        pytest.param({"a": entry([1 << 62, 4], 0, 0)}, b"", id="overflow"),
        pytest.param({"a": entry([1 << 60, 0], 0, 0)}, b"", id="huge and empty"),
        pytest.param({"a": entry([-1], 0, 4)}, bytes(4), id="negative"),
        pytest.param({"a": entry([1.0], 0, 4)}, bytes(4), id="not whole"),
        pytest.param({"a": entry([True], 0, 4)}, bytes(4), id="a truth value"),
        pytest.param({"a": entry([1], 0, 4)}, bytes(9), id="trailing bytes"),
        pytest.param({"a": entry([1], 0, 4, "F13")}, bytes(4), id="unknown dtype"),
        pytest.param({"a": {"shape": [1]}}, bytes(4), id="no dtype"),
        pytest.param([1, 2], b"", id="a list"),
        pytest.param(b'{"a":' + b"[" * 100_000, b"", id="nesting"),
        pytest.param(b'{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "a": {}}', bytes(4), id="duplicate"),
    ],
)
def test_unsound_safetensors(tmp_path, header, body):
    refused_cheaply(safetensors_file(tmp_path / "m.safetensors", header, body), "bad_safetensors")


def test_a_safetensors_header_of_a_terabyte(tmp_path):
    refused_cheaply(safetensors_file(tmp_path / "m.safetensors", {}, length=1 << 40), "truncated_file")


def test_truncated_safetensors(tmp_path):
    refused(safetensors_file(tmp_path / "m.safetensors", {"a": entry([4], 0, 16)}, bytes(7)), "truncated_file")


def test_too_many_tensors(tmp_path):
    header = {str(index): entry([0], 0, 0) for index in range(MAX_TENSORS + 1)}
    refused_cheaply(safetensors_file(tmp_path / "m.safetensors", header), "bad_safetensors", limit_bytes=200_000_000)


# ---- not a checkpoint at all


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"hello, I am a text file\n" * 20, "not_a_checkpoint"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "not_a_checkpoint"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "unsupported_format"),
        (b"GGUF" + bytes(64), "unsupported_format"),
        (b"\x80\x02}q\x00.", "not_a_checkpoint"),
        (b"PK\x03\x04", "truncated_file"),
        (b"PK\x05\x06" + bytes(18), "not_a_checkpoint"),
    ],
)
def test_other_files(tmp_path, content, code):
    path = tmp_path / "m.pt"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        inspect_file(path, filename="theirs.pt")
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("value", [{}, {"epoch": 3}, [torch.zeros(2)], torch.zeros(2), {"nested": {"w": 1}}])
def test_no_state_dict_in_it(tmp_path, value):
    path = tmp_path / "m.pt"
    torch.save(value, path)
    refused(path, "no_tensors")


def test_quantized_tensors_are_refused_with_a_reason(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"w": torch.sparse_coo_tensor([[0], [1]], [3.0], (2, 2))}, path)
    assert "not plain weights" in refused(path, "unsupported_tensor").message


@pytest.mark.parametrize("seed", range(60))
def test_noise_never_gives_an_untyped_error(tmp_path, state, seed):
    """Bytes changed at random anywhere in a file: a typed answer, or tensors of the claimed shapes."""
    import random

    generator = random.Random(seed)
    path = tmp_path / "m.pt"
    torch.save(state, path, _use_new_zipfile_serialization=bool(seed % 2))
    content = bytearray(path.read_bytes())
    where = range(len(content)) if seed % 3 else range(700)
    for _ in range(generator.choice([1, 5, 50])):
        content[generator.choice(where)] = generator.randrange(256)
    path.write_bytes(content)
    try:
        found = open_checkpoint(path)
    except InputError:
        return
    assert {name: tuple(tensor.shape) for name, tensor in found.state_dict().items()} == found.shapes
