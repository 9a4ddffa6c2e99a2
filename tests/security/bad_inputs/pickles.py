"""Pickles: with code in them, with claims, with shapes that never end."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import torch
from torch import nn

from tests.security.bad_inputs import bad_file


class Planted:
    """Pickles to a call of anything."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Network(nn.Module):
    """Somebody's own class."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)


def planted(canary: Path) -> Planted:
    return Planted(os.system, f"touch {canary}")


def program_in_zip(path: Path, program: bytes) -> None:
    """A torch file whose program is ours."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", program)
        file.writestr("m/version", "3")


def rewritten(path: Path, before: bytes, after: bytes) -> None:
    """The same members, with a piece of the program changed."""
    with zipfile.ZipFile(path) as file:
        members = [(entry.filename, file.read(entry)) for entry in file.infolist()]
    assert sum(body.count(before) for name, body in members if name.endswith("data.pkl")) == 1
    with zipfile.ZipFile(path, "w") as file:
        for name, body in members:
            file.writestr(name, body.replace(before, after) if name.endswith("data.pkl") else body)


@bad_file(1, "pickle with code (zip)", "pickle_with_code")
def code_in_zip(path: Path, canary: Path) -> None:
    torch.save({"w": torch.zeros(2), "x": planted(canary)}, path)


@bad_file(2, "pickle with code (legacy)", "pickle_with_code")
def code_in_legacy(path: Path, canary: Path) -> None:
    torch.save({"w": torch.zeros(2), "x": planted(canary)}, path, _use_new_zipfile_serialization=False)


@bad_file(3, "pickle with code (tar)", "tar_archive")
def code_in_tar(path: Path, canary: Path) -> None:
    with tarfile.open(path, "w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(planted(canary))
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))


@bad_file(4, "full pickled nn.Module", "pickled_module")
def whole_module(path: Path, canary: Path) -> None:
    torch.save(Network(), path)


@bad_file(13, "legacy file that would read memory that was never written", "storage_mismatch", "truncated_file")
def legacy_without_storage(path: Path, canary: Path) -> None:
    torch.save({"w": torch.arange(4.0)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-24])


@bad_file(14, "legacy file that claims 1 TiB", "storage_mismatch")
def legacy_terabyte(path: Path, canary: Path) -> None:
    torch.save({"w": torch.arange(4.0)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[:-24] + struct.pack("<q", 1 << 40) + content[-16:])


@bad_file(43, "bytearray of 8 GB", "pickle_with_code")
def claimed_bytearray(path: Path, canary: Path) -> None:
    program_in_zip(path, pickle.dumps(Planted(bytearray, 8 << 30), protocol=2))


@bad_file(44, "hash bomb", "no_tensors")
def hash_bomb(path: Path, canary: Path) -> None:
    key = ()
    for _ in range(28):
        key = (key, key)
    program = io.BytesIO()
    pickle._Pickler(program, protocol=2).dump([key, 1])  # the Python one writes a dict without hashing
    program_in_zip(path, program.getvalue().replace(b"]q", b"}q", 1).replace(b"K\x01e.", b"K\x01u."))


@bad_file(45, "laughs: lists of lists, 10⁴⁰ long", "")
def laughs(path: Path, canary: Path) -> None:
    """It is read: its tensors are there, and nobody walks through the rest."""
    lists = ["ha"]
    for _ in range(40):
        lists = [lists] * 10
    torch.save({"lol": lists, "w": torch.zeros(2)}, path)


@bad_file(46, "nesting two million deep", "bad_pickle")
def deep(path: Path, canary: Path) -> None:
    program_in_zip(path, b"\x80\x02" + b"]" * 2_000_000 + b".")


@bad_file(47, "stride 0 that claims 4 TB", "tensor_out_of_bounds")
def stride_zero(path: Path, canary: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}, path)


@bad_file(48, "record of another size than it claims", "storage_mismatch")
def record_size(path: Path, canary: Path) -> None:
    torch.save({"w": torch.arange(4.0)}, path)
    rewritten(path, b"K\x04tq", b"K\x09tq")


@bad_file(49, "size beyond the storage", "tensor_out_of_bounds")
def size_beyond(path: Path, canary: Path) -> None:
    torch.save({"w": torch.arange(4.0)}, path)
    rewritten(path, b"K\x00K\x04\x85", b"K\x00K\x05\x85")


@bad_file(50, "negative offset", "tensor_out_of_bounds")
def negative_offset(path: Path, canary: Path) -> None:
    torch.save({"w": torch.arange(4.0)}, path)
    rewritten(path, b"K\x00K\x04\x85", b"J\xff\xff\xff\xffK\x04\x85")
