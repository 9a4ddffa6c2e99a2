"""A file or folder as somebody gives it: its first bytes, and its members, read once for every format that looks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from quant_lens_engine.intake.tree import FolderTree, SingleFile, Tree, ZipTree
from quant_lens_engine.intake.zip_archive import UnsoundArchiveError

HEAD_BYTES = 1 << 16
"""How much of a file a format sees to recognise it; a table is known by its first lines, which may be long."""


@dataclass(frozen=True)
class GivenFile:
    """A file or folder, as the formats look at it.

    Attributes:
        path: where it is.
        head: its first bytes; none of a folder.
    """

    path: Path
    head: bytes

    @classmethod
    def at(cls, path: Path) -> Self:
        """What lies at ``path``."""
        if path.is_dir():
            return cls(path, b"")
        with path.open("rb") as file:
            return cls(path, file.read(HEAD_BYTES))

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is one."""
        return self.path.is_dir()

    @property
    def is_empty(self) -> bool:
        """Whether it is a file without a byte."""
        return not self.head and not self.is_folder

    @property
    def is_zip(self) -> bool:
        """Whether it begins as a zip does."""
        return self.head.startswith(b"PK")

    @cached_property
    def found(self) -> Tree | UnsoundArchiveError:
        """The members, or what is wrong with the archive."""
        kind = FolderTree if self.is_folder else ZipTree if self.is_zip else SingleFile
        try:
            return kind(self.path)
        except UnsoundArchiveError as error:
            return error

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of a folder's or zip's files, () for any other file; of a refused zip the first one.

        Only to recognise it: nothing here has been checked.
        """
        found = self.found
        if isinstance(found, Tree):
            return () if isinstance(found, SingleFile) else tuple(found.sizes)
        first = self.head[30 : 30 + int.from_bytes(self.head[26:28], "little")]
        return (first.decode("utf-8", "replace"),) if self.is_zip else ()
