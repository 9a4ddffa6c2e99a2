"""A zip file's directory, checked before anything in it is read: models, arrays and folders all come as zips."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

MAX_MEMBERS = 200_000
MAX_DEFLATE_RATIO = 300
"""Real arrays compress tenfold, now and then; a bomb compresses a thousandfold."""
_SMALL_BYTES = 64 << 20
_END_BYTES = 22
_FARTHEST_END = _END_BYTES + 65_535
"""The end-of-directory record, with the longest comment behind it."""
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")


@dataclass(frozen=True)
class Member:
    """One file in the archive; ``offset`` is where its bytes begin."""

    name: str
    offset: int
    size: int
    stored: bool


class UnsoundArchiveError(Exception):
    """What is wrong with an archive; ``truncated`` says that the file was cut off."""

    def __init__(self, reason: str, *, truncated: bool = False, bomb: bool = False) -> None:
        super().__init__(reason)
        self.truncated = truncated
        self.bomb = bomb


class FileWindow(io.RawIOBase):
    """A part of a file as a file: an archive within an archive.

    Args:
        file: the whole, seekable.
        start: the part's first byte.
        size: its bytes.
    """

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def seekable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where it stands."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Stand elsewhere."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """The next bytes."""
        self._file.seek(self._start + self._position)
        found = self._file.read(max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)


def read_directory(path: Path, start: int = 0, size: int | None = None) -> dict[str, Member]:
    """Every member by its name.

    Args:
        path: the archive, or a file that holds it as it is (a stored member of another).
        start: its first byte there; offsets of members are counted from the file's.
        size: its bytes; None: all that there are.

    Raises:
        UnsoundArchiveError: cut off; a duplicate, absolute or escaping name; a link; encryption; members that overlap;
            a local header that disagrees with the directory; a compression ratio that no array has.
    """
    with path.open("rb") as whole:
        file: IO[bytes] = whole if size is None else FileWindow(whole, start, size)  # type: ignore[assignment]
        members = _members(file)
    return {
        name: member if size is None else replace(member, offset=start + member.offset)
        for name, member in members.items()
    }


def _members(file: IO[bytes]) -> dict[str, Member]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError) as error:
        reason = f"its zip directory cannot be read ({error.__class__.__name__})"
        raise UnsoundArchiveError(reason, truncated=not _has_directory(file)) from None
    if len(entries) > MAX_MEMBERS:
        raise UnsoundArchiveError(f"it lists {len(entries)} members")
    seen: set[str] = set()
    for entry in entries:
        if entry.filename in seen:
            raise UnsoundArchiveError(f"it holds two members named {entry.filename[:80]!r}")
        seen.add(entry.filename)
    members = [_checked(entry, file.seek, file.read) for entry in entries]
    _check_overlap(members, entries, file.seek(0, io.SEEK_END))
    return {member.name: member for member in members}


def _checked(entry: zipfile.ZipInfo, seek: Callable[[int], int], read: Callable[[int], bytes]) -> Member:
    name = entry.filename
    shown = repr(name[:80])
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name[:3]:
        raise UnsoundArchiveError(f"the member {shown} points outside the archive")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise UnsoundArchiveError(f"the member {shown} is a symbolic link")
    if entry.flag_bits & 0x1:
        raise UnsoundArchiveError(f"the member {shown} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsoundArchiveError(f"the member {shown} uses a compression other than deflate")
    stored = entry.compress_type == zipfile.ZIP_STORED
    if stored and entry.compress_size != entry.file_size:
        raise UnsoundArchiveError(f"the member {shown} claims two sizes")
    if not stored and entry.file_size > max(_SMALL_BYTES, MAX_DEFLATE_RATIO * entry.compress_size):
        raise UnsoundArchiveError(
            f"the member {shown} would grow from {entry.compress_size} to {entry.file_size} bytes", bomb=True
        )
    if entry.header_offset < 0:
        raise UnsoundArchiveError("its directory says more bytes than there are", truncated=True)
    seek(entry.header_offset)
    header = read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise UnsoundArchiveError(f"the member {shown} is cut off", truncated=True)
    magic, _, flags, method, _, _, _, compressed, size, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    local_name = read(name_length)
    text = local_name.decode("utf-8" if flags & 0x800 else "cp437", "replace")
    deferred = bool(flags & 0x8) or 0xFFFFFFFF in (compressed, size)
    if magic != b"PK\x03\x04" or text != entry.orig_filename or method != entry.compress_type:
        raise UnsoundArchiveError(f"the header of the member {shown} disagrees with the directory")
    if not deferred and (compressed, size) != (entry.compress_size, entry.file_size):
        raise UnsoundArchiveError(f"the header of the member {shown} disagrees with the directory")
    offset = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    return Member(name, offset, entry.file_size, stored)


def _check_overlap(members: list[Member], entries: list[zipfile.ZipInfo], size: int) -> None:
    places = sorted(
        (entry.header_offset, member.offset + entry.compress_size, member.name)
        for member, entry in zip(members, entries, strict=True)
    )
    end = 0
    for first, last, name in places:
        if first < end:
            raise UnsoundArchiveError(f"the member {name[:80]!r} overlaps another")
        if last > size:
            raise UnsoundArchiveError(f"the member {name[:80]!r} is cut off", truncated=True)
        end = last
    if places and places[0][0] != 0:
        raise UnsoundArchiveError("something stands before the archive")


def _has_directory(file: IO[bytes]) -> bool:
    """Whether a whole end-of-directory record is there: without it the file was cut off."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _FARTHEST_END))
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    return place >= 0 and len(tail) - place >= _END_BYTES
