"""Folders that an engine process has written: measured and removed, whatever it has made of them."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from pathlib import Path

_BLOCK = 512
_MOST_FILES = 100_000


def disk_bytes(*folders: Path) -> float:
    """What these folders take on the disk, in bytes.

    Infinity where one of their folders is closed to us, or where they hold more than 100,000 files: no computation of
    ours leaves such a folder, and what lies there is not known.

    Example:
        >>> disk_bytes(Path("no-such-folder"))
        0.0
    """
    total, seen = 0.0, 0
    left = list(map(str, folders))
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen > _MOST_FILES:
                        return math.inf
                    with contextlib.suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                        if entry.is_dir(follow_symlinks=False):
                            left.append(entry.path)
        except PermissionError:
            return math.inf
        except OSError:  # gone meanwhile
            continue
    return total


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, closed folders too; a link goes, and what it leads to stays.

    The process that wrote it has ended.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.is_dir() or folder.is_symlink():
        return
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
    for parent, names, _ in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
