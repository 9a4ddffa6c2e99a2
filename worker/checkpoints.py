"""Folders of stages that are being computed: what a stopped one goes on from, on whichever worker shares the disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from worker.sandbox import remove_tree
from worker.settings import Settings

_KEPT_S = 3 * 86400.0
_LENT = "checkpoints"
_LIST = "lent"
"""A list of what an engine process was lent, beside the folder that it may write."""


class Checkpoints:
    """One folder a stage, by its fingerprint. The engine writes and reads it; here it is moved and removed.

    An engine process may write into its own folder alone, so what it goes on from is moved there, and back when it has
    ended. What a killed worker left behind is found where it lay: ``jobs/WORKER/ENGINE/checkpoints/FINGERPRINT``.

    Args:
        settings: for the two folders, which are on one file system.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.checkpoints_dir.absolute()
        self._jobs = settings.jobs_dir.absolute()

    def lend(self, fingerprint: str, place: Path) -> Path:
        """The stage's folder within ``place``; it exists where something was computed for a while, and then stopped.

        Whoever asks holds the claim on the stage, so that an earlier engine process that still has it is a dead one's.
        """
        lent = place / fingerprint
        with (place.parent / _LIST).open("a") as file:
            file.write(f"{fingerprint}\n")
        for found in self._all_of(fingerprint):
            if not lent.exists():
                with contextlib.suppress(OSError):  # gone meanwhile: the stage begins anew
                    found.rename(lent)
        return lent

    def take_back(self, place: Path) -> None:
        """What an engine process has left, for the next one: folders that it was lent, and nothing else of its making.

        Code that a file has brought along could leave a folder in the name of another model's stage.
        """
        for left in place.iterdir() if place.is_dir() else ():
            if not _was_lent(left):
                continue
            self._folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # there already: the later one counts
                left.rename(self._folder / left.name)

    def rescue(self, leftover: Path) -> None:
        """The same of every engine process of a worker that is no more."""
        for place in leftover.glob(f"*/{_LENT}"):
            self.take_back(place)

    def forget(self, fingerprint: str) -> None:
        """The stage has ended."""
        for path in self._all_of(fingerprint):
            remove_tree(path)

    def sweep(self) -> None:
        """Remove those that nobody has gone on with for three days: their runs were cancelled, or the engine's version
        is another."""
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            written = max(map(_written_at, (path, *path.rglob("*"))))
            if time.time() - written > _KEPT_S:
                remove_tree(path)

    def _all_of(self, fingerprint: str) -> Iterator[Path]:
        yield from (path for path in (self._folder / fingerprint,) if path.is_dir() and not path.is_symlink())
        yield from filter(_was_lent, self._jobs.glob(f"*/*/{_LENT}/{fingerprint}"))


def _written_at(path: Path) -> float:
    """Of a link itself: it may lead nowhere. What is gone meanwhile was never written."""
    with contextlib.suppress(OSError):
        return path.lstat().st_mtime
    return 0.0


def _was_lent(folder: Path) -> bool:
    """Whether a folder of an engine process is one that it was given, and no link to another place."""
    names = folder.parent.parent / _LIST
    lent = names.read_text().splitlines() if names.is_file() else []
    return folder.name in lent and folder.is_dir() and not folder.is_symlink()
