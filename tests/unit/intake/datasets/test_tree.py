"""Folders, zips and files as one tree, and the hash of a folder."""

from __future__ import annotations

import hashlib
import os

import pytest

from quant_lens_engine.intake import folder_sha256
from quant_lens_engine.intake.tree import MAX_DEPTH, SingleFile, open_tree
from quant_lens_engine.intake.zip_archive import UnsoundArchiveError


def test_members_are_the_same_in_each(pack):
    tree = open_tree(pack({"b/two.txt": b"22", "a.txt": b"1", ".hidden/x": b"", "__MACOSX/a.txt": b""}))
    assert tree.sizes == {"a.txt": 1, "b/two.txt": 2}
    assert list(tree.sizes) == ["a.txt", "b/two.txt"]
    assert tree.read("b/two.txt", 10) == b"22"
    assert tree.read("b/two.txt", 1) == b"2"
    place = tree.place("b/two.txt")
    if place is not None:
        path, offset = place
        assert path.read_bytes()[offset : offset + 2] == b"22"


def test_a_file_by_itself(tmp_path):
    (tmp_path / ".data").write_bytes(b"abc")
    tree = open_tree(tmp_path / ".data")
    assert isinstance(tree, SingleFile)
    assert tree.sizes == {".data": 3}
    assert tree.place(".data") == (tmp_path / ".data", 0)


def test_the_hash_of_a_folder(tmp_path):
    for folder in ("one", "other"):
        (tmp_path / folder / "b").mkdir(parents=True)
        (tmp_path / folder / "a").write_bytes(b"1")
        (tmp_path / folder / "b" / "c").write_bytes(b"22")
    lines = [("a", 1, b"1"), ("b/c", 2, b"22")]
    said = "".join(f"{len(n)}:{n}:{size}:{hashlib.sha256(content).hexdigest()}\n" for n, size, content in lines)
    assert folder_sha256(tmp_path / "one") == hashlib.sha256(said.encode()).hexdigest()
    assert folder_sha256(tmp_path / "other") == folder_sha256(tmp_path / "one")
    (tmp_path / "other" / "b" / "c").write_bytes(b"23")
    assert folder_sha256(tmp_path / "other") != folder_sha256(tmp_path / "one")


def test_folders_that_are_too_deep_or_too_full(tmp_path, monkeypatch):
    deep = tmp_path.joinpath(*["d"] * (MAX_DEPTH + 1))
    deep.mkdir(parents=True)
    with pytest.raises(UnsoundArchiveError, match="deep"):
        open_tree(tmp_path)
    monkeypatch.setattr("quant_lens_engine.intake.tree.MAX_MEMBERS", 2)
    full = tmp_path / "full"
    full.mkdir()
    for name in "abc":
        (full / name).touch()
    with pytest.raises(UnsoundArchiveError, match="more than 2 files"):
        open_tree(full)


def test_names_that_are_no_text_are_left_out(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff\xfe", os.O_CREAT))
    (tmp_path / "line\nbreak").touch()
    os.mkfifo(tmp_path / "pipe")
    tree = open_tree(tmp_path)
    assert list(tree.sizes) == ["a"]
    assert sorted(tree.left_out) == ["\\udcff\\udcfe", "line\\nbreak"]
