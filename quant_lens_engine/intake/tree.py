"""A folder, a zip or a single file as one thing: members by name, their sizes, and a way to their bytes."""

from __future__ import annotations

import hashlib
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO

from quant_lens_engine.intake.zip_archive import MAX_MEMBERS, Member, UnsoundArchiveError, read_directory

MAX_DEPTH = 16
_LEFT_BY_SYSTEMS = {"__MACOSX", "Thumbs.db", "desktop.ini"}


class Tree(ABC):
    """Members of a folder or an archive, or the one member of a file.

    Attributes:
        sizes: bytes of each member by its name (``a/b.png``), in the order of the names.
        left_out: members that are not followed or cannot be named (links, names that are no text).
    """

    def __init__(self, sizes: dict[str, int], left_out: tuple[str, ...] = ()) -> None:
        self.sizes = {name: sizes[name] for name in sorted(sizes) if not _is_litter(name)}
        self.left_out = left_out

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """The member's bytes, from the first; reading a damaged one raises what its library raises."""

    @abstractmethod
    def place(self, name: str) -> tuple[Path, int] | None:
        """The file in which the member's bytes lie as they are, and at which byte; None where they are compressed."""

    def read(self, name: str, limit: int) -> bytes:
        """At most ``limit`` bytes of a member."""
        with self.open(name) as stream:
            return stream.read(limit)

    def ending(self, *suffixes: str) -> list[str]:
        """Names that end with one of ``suffixes``, whatever their case."""
        return [name for name in self.sizes if name.lower().endswith(suffixes)]


class SingleFile(Tree):
    """A file by itself."""

    def __init__(self, path: Path) -> None:
        super().__init__({path.name: path.stat().st_size})
        self.sizes = {path.name: path.stat().st_size}
        self._path = path

    def open(self, name: str) -> IO[bytes]:  # noqa: ARG002  (there is one)
        """The file."""
        return self._path.open("rb")

    def place(self, name: str) -> tuple[Path, int] | None:  # noqa: ARG002
        """Its first byte."""
        return self._path, 0


class FolderTree(Tree):
    """A folder; links in it are not followed.

    Raises:
        UnsoundArchiveError: too many files, or too deep.
    """

    def __init__(self, path: Path) -> None:
        sizes: dict[str, int] = {}
        left_out: list[str] = []
        for name, size in _walk(path, "", 0):
            if size is None:
                left_out.append(name)
            else:
                sizes[name] = size
            if len(sizes) + len(left_out) > MAX_MEMBERS:
                raise UnsoundArchiveError(f"it holds more than {MAX_MEMBERS} files")
        super().__init__(sizes, tuple(left_out))
        self._path = path

    def open(self, name: str) -> IO[bytes]:
        """The file of that name."""
        return (self._path / name).open("rb")

    def place(self, name: str) -> tuple[Path, int] | None:
        """The file's first byte."""
        return self._path / name, 0


class ZipTree(Tree):
    """A zip whose directory was checked.

    Raises:
        UnsoundArchiveError: what :func:`read_directory` has against it.
    """

    def __init__(self, path: Path) -> None:
        self.members: dict[str, Member] = {
            name: member for name, member in read_directory(path).items() if not name.endswith("/")
        }
        super().__init__({name: member.size for name, member in self.members.items()})
        self._path = path

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self._path)  # parsed once: a thousand members would parse the directory as often

    def open(self, name: str) -> IO[bytes]:
        """The member, inflated as it is read."""
        return self._archive.open(name)

    def place(self, name: str) -> tuple[Path, int] | None:
        """Where a stored member's bytes begin in the archive."""
        member = self.members[name]
        return (self._path, member.offset) if member.stored else None


def open_tree(path: Path) -> Tree:
    """The tree at ``path``, whichever kind it is.

    Raises:
        UnsoundArchiveError: a zip or a folder that is refused.
    """
    if path.is_dir():
        return FolderTree(path)
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    return ZipTree(path) if is_zip else SingleFile(path)


def folder_sha256(path: Path) -> str:
    """SHA-256 over the names, sizes and bytes of a folder's files: equal folders have equal ones, wherever they are."""
    tree = FolderTree(path)
    total = hashlib.sha256()
    for name, size in tree.sizes.items():
        with tree.open(name) as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # a raw file
        total.update(f"{len(name.encode())}:{name}:{size}:{content}\n".encode())
    return total.hexdigest()


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, int | None]]:
    """Each file's name and size; no size for what is left out."""
    if depth > MAX_DEPTH:
        raise UnsoundArchiveError(f"its folders lie more than {MAX_DEPTH} deep")
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if not name.isprintable():  # bytes that are no text among them
                yield name.encode("unicode_escape").decode(), None
            elif entry.is_symlink():
                yield name, None
            elif entry.is_dir():
                yield from _walk(Path(entry.path), name + "/", depth + 1)
            elif entry.is_file():
                yield name, entry.stat().st_size


def _is_litter(name: str) -> bool:
    """What a system leaves in folders and archives: hidden files, thumbnails."""
    return any(part.startswith(".") or part in _LEFT_BY_SYSTEMS for part in name.split("/"))
