"""Arrays and pictures that claim more than there is."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tests.security.bad_inputs import bad_file
from tests.security.bad_inputs.pickles import Planted


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _objects(canary: Path) -> np.ndarray:
    return np.array([Planted(os.system, f"touch {canary}")], dtype=object)


def _header(shape: tuple[int, ...]) -> bytes:
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@bad_file(34, "object .npy", "object_array", "not_data", "not_a_checkpoint", filename="x.npy")
def object_npy(path: Path, canary: Path) -> None:
    path.write_bytes(_npy(_objects(canary)))


@bad_file(35, "object .npz", "object_array", filename="data.npz")
def object_npz(path: Path, canary: Path) -> None:
    np.savez(path.open("wb"), x=_objects(canary), y=np.zeros(1, np.int64))


@bad_file(36, "header that claims 64 GiB", "bad_npz", "truncated_file", filename="data.npz")
def claimed_rows(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", _header((1 << 34,)) + bytes(64))
        file.writestr("y.npy", _npy(np.zeros(1, np.int64)))


@bad_file(37, "npz bomb", "npz_bomb", filename="data.npz")
def npz_bomb(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("x.npy", "w") as member:
            member.write(_header((1 << 28,)))
            for _ in range(1 << 10):
                member.write(bytes(1 << 20))
        file.writestr("y.npy", _npy(np.zeros(1, np.int64)))


def _picture(width: int, height: int) -> bytes:
    """A PNG of zeros, one bit a pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packed = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    body = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _pictures(path: Path, picture: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("cat/1.png", picture)
        file.writestr("dog/1.png", picture)


@bad_file(38, "PNG of 900 Mpx", "image_too_large", filename="images.zip")
def huge_picture(path: Path, canary: Path) -> None:
    _pictures(path, _picture(30_000, 30_000))


@bad_file(39, "PNG of 144 Mpx", "image_too_large", filename="images.zip")
def large_picture(path: Path, canary: Path) -> None:
    _pictures(path, _picture(12_000, 12_000))
