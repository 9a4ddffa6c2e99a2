"""The folder of one engine process: all that it can see of the files of this server."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from worker.sandbox.tree import disk_bytes, remove_tree
from worker.sandbox.walls.user import NOBODY

_PARTS = ("inputs", "work", "checkpoints")


class JobFolder:
    """``inputs`` to be read, ``work`` and ``checkpoints`` to be written.

    Files come in as hard links, which cost nothing however large they are, and by the time they are needed: a warm
    process has its walls around this folder before anybody knows which upload it will be asked about.

    Args:
        beside: the folder in which it is made.
        is_nobodys: the process is another user than the worker.

    Raises:
        PermissionError: the folder cannot be given to that user.
    """

    def __init__(self, beside: Path, *, is_nobodys: bool = False) -> None:
        beside.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(dir=beside))
        self._is_nobodys = is_nobodys
        self._brought: dict[str, str] = {}
        for part in _PARTS:
            (self.path / part).mkdir()
        if is_nobodys:
            self.path.chmod(0o711)
            (self.path / "inputs").chmod(0o755)
            for part in ("work", "checkpoints"):  # bubblewrap walks there as a root without root's rights
                (self.path / part).chmod(0o711)
            try:
                self._hand_over(self.path / "work", self.path / "checkpoints")
            except OSError:
                self.remove()
                raise

    @property
    def checkpoints(self) -> Path:
        """Folders of stages that are being computed."""
        return self.path / "checkpoints"

    def disk_bytes(self) -> float:
        """What the process has written here; see :func:`worker.sandbox.tree.disk_bytes`."""
        return disk_bytes(self.path / "work", self.checkpoints)

    def bring(self, path: str) -> str:
        """A file or folder of this server, into ``inputs``; where it is now."""
        if path not in self._brought:
            place = self.path / "inputs" / str(len(self._brought))
            place.mkdir()
            there = place / Path(path).name
            if Path(path).is_dir():
                shutil.copytree(path, there, symlinks=True, copy_function=self._link)  # a link leads nowhere in here
            else:
                self._link(path, str(there))
            if self._is_nobodys:
                for folder in (place, *(part for part in place.rglob("*") if part.is_dir())):
                    folder.chmod(0o755)  # whatever the worker's umask is
            self._brought[path] = str(there)
        return self._brought[path]

    def admit(self, folder: Path) -> None:
        """A folder that was moved into ``checkpoints`` is the process' to write."""
        if self._is_nobodys:
            self._hand_over(folder, *folder.rglob("*"))

    def remove(self) -> None:
        """With all that is in it; what was linked stays where it came from."""
        remove_tree(self.path)

    def _link(self, source: str, target: str) -> str:
        """A hard link; a copy where files lie on another disk, or where nobody may not read them."""
        try:
            if self._is_nobodys:
                _open_to_nobody(source)
            os.link(source, target, follow_symlinks=True)
        except OSError:
            shutil.copyfile(source, target)
            if self._is_nobodys:
                os.chown(target, -1, NOBODY)
                os.chmod(target, 0o440)
        return target

    def _hand_over(self, *paths: Path) -> None:
        for path in paths:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def _open_to_nobody(path: str) -> None:
    """Give an upload of our own to nobody's group: the store keeps them readable by owner and group alone."""
    status = os.stat(path)
    if status.st_mode & 0o004 or status.st_gid == NOBODY:
        return
    if (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) != (0o440, os.geteuid(), os.getegid()):
        raise PermissionError(path)  # not ours to change
    os.chown(path, -1, NOBODY)
