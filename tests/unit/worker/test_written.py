"""What an engine process may leave on the disk: measured, limited, swept, removed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.worker.test_store import add_file
from worker import sandbox
from worker.checkpoints import Checkpoints
from worker.file_sweep import FileSweep
from worker.sandbox.walls.landlock import LandlockWall
from worker.settings import Settings
from worker.watch import OverLimit, answers

NOT_ROOT = """
import math, os, pathlib, sys
from worker.sandbox.tree import disk_bytes, remove_tree
os.setgid(65534), os.setuid(65534)
top = pathlib.Path(sys.argv[1])
hidden = top / "a" / "hidden"
hidden.mkdir(parents=True)
(hidden / "file").write_bytes(b"x")
(top / "link").symlink_to("/usr")
hidden.chmod(0o300)
assert disk_bytes(top) == math.inf
remove_tree(top)
assert not top.exists()
"""


def test_blocks_are_counted_links_are_not_followed(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"x" * 2**20)
    (tmp_path / "link").symlink_to("/usr")
    (tmp_path / "nowhere").symlink_to("/nowhere")
    assert 2**20 <= sandbox.disk_bytes(tmp_path) < 2**20 + 2**16


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_is_closed_to_us_is_too_much_and_is_removed(tmp_path_factory):
    place = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    place.chmod(0o777)
    try:
        done = subprocess.run(
            [sys.executable, "-c", NOT_ROOT, str(place / "top")], capture_output=True, text=True, cwd=Path.cwd()
        )
    finally:
        sandbox.remove_tree(place)
    assert done.returncode == 0, done.stderr


class Writing:
    """An engine process that has written more than it may."""

    limits = sandbox.Limits(memory_bytes=1, cpu_s=1, folder_bytes=2**20)

    def __init__(self, folder):
        self._folder = folder

    def receive(self, timeout_s):
        time.sleep(timeout_s)

    def memory_bytes(self):
        return 0

    def disk_bytes(self):
        return self._folder.disk_bytes()


def test_who_fills_the_disk_is_ended(tmp_path):
    folder = sandbox.JobFolder(tmp_path)
    (folder.path / "inputs" / "upload").write_bytes(b"x" * 2**22)  # not of its making
    (folder.path / "work" / "one").write_bytes(b"x" * 2**19)
    (folder.checkpoints / "two").write_bytes(b"x" * 2**19)
    (folder.path / "work" / "three").write_bytes(b"x" * 2**18)
    with pytest.raises(OverLimit) as caught:
        list(answers(Writing(folder), until=time.monotonic() + 20, is_stopped=lambda: False))
    assert caught.value.code == "disk_limit"


def test_a_link_to_nowhere_in_a_checkpoint_does_not_end_the_sweep(tmp_path):
    settings = Settings(data_dir=tmp_path)
    old, new = (settings.checkpoints_dir / name for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "link").symlink_to("nowhere")
    for path in (old / "link", old):
        os.utime(path, (1, 1), follow_symlinks=False)
    Checkpoints(settings).sweep()
    assert [path.name for path in settings.checkpoints_dir.iterdir()] == ["new"]


def aged_stray(store, known):
    stray = store.files.local_path(known).with_name("0" * 64)
    stray.write_bytes(b"x")
    os.utime(stray, (1, 1))
    os.utime(store.files.local_path(known), (1, 1))
    return stray


def test_a_store_that_has_lost_its_records_removes_no_bytes(store, tmp_path):
    known = add_file(store, tmp_path, b"weights")
    path, sweep = store.files.local_path(known), FileSweep(store, "me").sweep
    sweep()
    stray = aged_stray(store, known)
    store.client.flushdb()
    sweep()
    add_file(store, tmp_path, b"others")
    sweep()
    assert path.exists()
    assert stray.exists()
    (Path(store.files._root) / ".store").unlink()  # the administrator says that the folder is this store's
    sweep()
    assert not path.exists()
    assert not stray.exists()


def test_a_store_that_knows_no_file_removes_no_bytes(store, tmp_path):
    known = add_file(store, tmp_path, b"weights")
    path = store.files.local_path(known)
    os.utime(path, (1, 1))
    store.client.flushdb()
    FileSweep(store, "me").sweep()
    assert path.exists()


def test_used_bytes_are_those_of_their_owner(store, tmp_path):
    add_file(store, tmp_path, b"1234", owner="ana")
    add_file(store, tmp_path, b"12", owner="bob")
    assert [store.files.used_bytes(owner) for owner in (None, "ana", "bob", "eve")] == [6, 4, 2, 0]


@pytest.mark.parametrize("version", [1, 2])
def test_landlock_that_guards_no_truncation_is_none(version, monkeypatch):
    plumbing = pytest.importorskip("landlock.plumbing")
    monkeypatch.setattr(plumbing, "landlock_abi_version", lambda: version)
    assert "truncated" in LandlockWall().why_not()
