"""Folders of stages that are being computed: what a stopped one goes on from, on whichever worker shares the disk."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

_KEPT_S = 3 * 86400.0


class Checkpoints:
    """One folder a stage, by its fingerprint. The engine writes and reads it; here it is only named and removed.

    Args:
        folder: of all of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, fingerprint: str) -> Path:
        """Of one stage; it exists where something was computed for a while, and then stopped."""
        return self._folder / fingerprint

    def forget(self, fingerprint: str) -> None:
        """The stage has ended."""
        shutil.rmtree(self.folder(fingerprint), ignore_errors=True)

    def sweep(self) -> None:
        """Remove those that nobody has gone on with for three days: their runs were cancelled, or the engine's version
        is another."""
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            written = max((part.stat().st_mtime for part in (path, *path.rglob("*"))), default=0.0)
            if time.time() - written > _KEPT_S:
                shutil.rmtree(path, ignore_errors=True)
