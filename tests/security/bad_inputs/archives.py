"""Zips that are not what they say, and files that are no checkpoint."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import torch

from tests.security.bad_inputs import bad_file
from tests.security.bad_inputs.pickles import Planted

EMPTY_DICT = b"\x80\x02}."


def _zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
        warnings.simplefilter("ignore")
        for name, body in members:
            file.writestr(name, body)


@bad_file(15, "deflated zip bomb", "zip_bomb", "compressed_member")
def bomb(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", EMPTY_DICT)
        with file.open("m/data/0", "w") as member:
            for _ in range(500):
                member.write(bytes(1 << 20))


@bad_file(16, "duplicate data.pkl", "bad_zip")
def duplicate(path: Path, canary: Path) -> None:
    _zip(path, ("m/data.pkl", EMPTY_DICT), ("m/data.pkl", b"\x80\x02]."))


@bad_file(17, "member ../", "bad_zip")
def outside(path: Path, canary: Path) -> None:
    _zip(path, ("m/data.pkl", EMPTY_DICT), (f"../../{canary.name}", b"x"))


@bad_file(18, "symlink member", "bad_zip")
def symlink(path: Path, canary: Path) -> None:
    entry = zipfile.ZipInfo("m/data/0")
    entry.external_attr = 0o120777 << 16
    _zip(path, ("m/data.pkl", EMPTY_DICT), (entry, b"/etc/passwd"))


@bad_file(19, "header and central directory disagree", "bad_zip")
def disagree(path: Path, canary: Path) -> None:
    _zip(path, ("m/data.pkl", EMPTY_DICT), ("m/data/0", b"abcd"))
    path.write_bytes(path.read_bytes().replace(b"m/data/0", b"m/data/1", 1))


@bad_file(20, "truncated zip", "truncated_file")
def truncated(path: Path, canary: Path) -> None:
    torch.save({"w": torch.zeros(500)}, path)
    path.write_bytes(path.read_bytes()[:-300])


@bad_file(21, "wrong extension: a picture called model.pt", "not_a_checkpoint", "unsupported_format", "bad_image")
def wrong_extension(path: Path, canary: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))


@bad_file(22, "polyglot: a pickle with code before a sound zip", "pickle_with_code")
def polyglot(path: Path, canary: Path) -> None:
    import os
    import pickle

    _zip(path, ("m/data.pkl", EMPTY_DICT))
    path.write_bytes(pickle.dumps(Planted(os.system, f"touch {canary}")) + path.read_bytes())


@bad_file(23, "empty file", "empty_file")
def empty(path: Path, canary: Path) -> None:
    path.write_bytes(b"")
