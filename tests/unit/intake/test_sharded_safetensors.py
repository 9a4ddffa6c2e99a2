"""safetensors in several files: by an index, as a folder and as a stored zip; and what is refused."""

from __future__ import annotations

import json
import zipfile

import pytest
import safetensors.torch
import torch

from quant_lens_engine.analysis import analyze
from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake import inspect_file, open_checkpoint
from quant_lens_engine.schema import parse_run_spec
from quant_lens_engine.subject import file_sha256

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path, state):
    """The state in two shards, as save_pretrained writes it."""
    path = tmp_path / "model"
    path.mkdir()
    names = list(state)
    parts = {"model-00001-of-00002.safetensors": names[:2], "model-00002-of-00002.safetensors": names[2:]}
    for file, keys in parts.items():
        safetensors.torch.save_file({key: state[key] for key in keys}, path / file, metadata={"format": "pt"})
    write_index(path, {key: file for file, keys in parts.items() for key in keys})
    (path / "config.json").write_text("{}")
    return path


def write_index(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def zipped(folder, *, compression=zipfile.ZIP_STORED, prefix=""):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return path


def assert_equal(checkpoint, state):
    found = checkpoint.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("prefix", [None, "", "model/"])
def test_shards_are_read_in_a_folder_and_in_a_zip(folder, state, prefix):
    path = folder if prefix is None else zipped(folder, prefix=prefix)
    found = open_checkpoint(path)
    assert found.format == "sharded-safetensors"
    assert_equal(found, state)
    assert any("2 shards" in note for note in found.notes)
    assert inspect_file(path).architectures[0].fits if path.is_file() else found.size_bytes
    shards = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert found.size_bytes == (path.stat().st_size if path.is_file() else shards)


def test_non_finite_weights_are_found_in_every_shard(folder, state):
    file = folder / "model-00002-of-00002.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors["classifier.bias"][3] = float("nan")
    safetensors.torch.save_file(tensors, file)
    for path in (folder, zipped(folder)):
        assert open_checkpoint(path).non_finite() == ["classifier.bias"]


def test_a_numbered_series_and_a_lone_file_need_no_index(folder, state):
    (folder / INDEX).unlink()
    assert_equal(open_checkpoint(folder), state)
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="number 1 of 2") as caught:
        open_checkpoint(folder)
    assert caught.value.code == "missing_shard"
    (folder / "model-00002-of-00002.safetensors").unlink()
    safetensors.torch.save_file(state, folder / "model.safetensors")
    assert_equal(open_checkpoint(folder), state)


def other_names(folder):
    (folder / INDEX).unlink()
    (folder / "model-00002-of-00002.safetensors").rename(folder / "other.safetensors")


def lost_shard(folder):
    (folder / "model-00002-of-00002.safetensors").unlink()


def linked_shard(folder):
    file = folder / "model-00002-of-00002.safetensors"
    file.rename(folder.parent / "elsewhere.safetensors")
    file.symlink_to(folder.parent / "elsewhere.safetensors")


def outside(folder):
    write_index(folder, {"hidden1.weight": "../elsewhere.safetensors"})


def change_index(folder, change):
    index = json.loads((folder / INDEX).read_text())["weight_map"]
    change(index)
    write_index(folder, index)


def not_listed(folder):
    change_index(folder, lambda index: index.pop("hidden1.weight"))


def listed_only(folder):
    change_index(folder, lambda index: index.update(ghost="model-00001-of-00002.safetensors"))


def in_the_other(folder):
    change_index(folder, lambda index: index.update({"hidden1.weight": "model-00002-of-00002.safetensors"}))


def twice(folder):
    first = safetensors.torch.load_file(folder / "model-00001-of-00002.safetensors")
    file = folder / "model-00002-of-00002.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(file) | first, file)
    (folder / INDEX).unlink()


def no_map(folder):
    (folder / INDEX).write_text('{"metadata": {}}')


def not_json(folder):
    (folder / INDEX).write_text('{"weight_map": ')


def name_twice(folder):
    (folder / INDEX).write_text('{"weight_map": {"a": "b", "a": "c"}}')


def two_indexes(folder):
    (folder / INDEX).rename(folder / "a.safetensors.index.json")
    (folder / "b.safetensors.index.json").write_text("{}")


def cut(folder):
    file = folder / "model-00001-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


BROKEN = {
    other_names: "missing_index", lost_shard: "missing_shard", linked_shard: "missing_shard", outside: "missing_shard",
    not_listed: "wrong_index", listed_only: "wrong_index", in_the_other: "wrong_index", twice: "wrong_index",
    no_map: "wrong_index", not_json: "wrong_index", name_twice: "wrong_index", two_indexes: "wrong_index",
    cut: "truncated_file",
}  # fmt: skip


@pytest.mark.parametrize("breaking", BROKEN, ids=lambda breaking: breaking.__name__)
def test_what_index_and_shards_disagree_about_is_refused(folder, breaking):
    breaking(folder)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert caught.value.code == BROKEN[breaking]
    assert caught.value.message.startswith("model: ")
    assert str(folder.parent) not in caught.value.message


def test_a_compressed_zip_is_refused_with_the_way_to_make_one(folder):
    with pytest.raises(CheckpointError, match="compressed") as caught:
        open_checkpoint(zipped(folder, compression=zipfile.ZIP_DEFLATED))
    assert caught.value.code == "compressed_member"
    assert "zip -0" in caught.value.hint


def test_a_run_takes_a_folder_and_a_zip_to_the_same_digits(folder):
    results = []
    for path in (folder, zipped(folder)):
        sha256 = file_sha256(path)
        spec = parse_run_spec(
            {
                "model": {"file": sha256, "architecture": "digits-mlp"},
                "data": {"example": "digits", "limit": 64},
                "schemes": ["int8"],
                "analyses": {"preset": "quick", "curvature": {"top": 1}},
            }
        )
        results.append(analyze(spec, files={sha256: path}))
    first, second = (result.variants[1].evaluation.loss for result in results)
    assert first == second
    assert {result.model.format for result in results} == {"sharded-safetensors"}


def test_a_folder_has_the_same_hash_wherever_it_is_and_another_when_a_name_changes(folder, tmp_path):
    before = file_sha256(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    assert file_sha256(moved) == before
    (moved / "config.json").rename(moved / "configuration.json")
    assert file_sha256(moved) != before
