"""Which files of a repository come, and the one file that they become."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile

import pytest
from huggingface_hub import constants

from quant_lens_engine.errors import CheckpointError, InputError
from tests.hub_server import Hub, Repo
from worker.hub import listing
from worker.hub.archive import one_file
from worker.hub.choice import chosen_files
from worker.hub.listing import HubFile, look
from worker.hub.names import check_asked, parse_asked
from worker.hub.refusals import HubError, HubUnreachable
from worker.serve import run_worker
from worker.settings import Settings

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
PICKLES = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
NEVER = [
    "modeling_x.py", "training_args.bin", "optimizer.pt", "scheduler.pt", "model.ckpt", "data.pkl", "README.md",
    ".gitattributes", "onnx/model.onnx", "sub/model.safetensors", "../config.json", "/etc/config.json",
    "config.json/../../x", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "generation_config.json",
]  # fmt: skip


@pytest.mark.parametrize(
    ("there", "come"),
    [
        (["model.safetensors", "pytorch_model.bin", "config.json"], ["config.json", "model.safetensors"]),
        ([*SHARDS, "model.safetensors.index.json", "consolidated.safetensors", "config.json"],
         ["config.json", *SHARDS, "model.safetensors.index.json"]),
        (["model.safetensors", "model.safetensors.index.json"], ["model.safetensors"]),
        (["model.safetensors", "model.fp16.safetensors"], ["model.safetensors"]),
        (["pytorch_model.bin", "config.json", "vocab.txt"], ["config.json", "pytorch_model.bin", "vocab.txt"]),
        ([*PICKLES, "pytorch_model.bin.index.json"], [*PICKLES, "pytorch_model.bin.index.json"]),
        (["adapter_config.json", "adapter_model.safetensors"], ["adapter_config.json", "adapter_model.safetensors"]),
        (["model.safetensors", "tokenizer.json", "vocab.txt", "merges.txt"], ["model.safetensors", "tokenizer.json"]),
        (["resnet.safetensors", "config.json"], ["config.json", "resnet.safetensors"]),
        (["net.onnx", "config.json", "vocab.txt"], ["net.onnx"]),
        (["net.gguf", "pytorch_model.bin"], ["pytorch_model.bin"]),
    ],
)  # fmt: skip
def test_what_comes(there, come):
    assert list(chosen_files([*there, *NEVER])) == come


def test_several_models_are_not_guessed_among():
    with pytest.raises(CheckpointError) as caught:
        chosen_files(["a.safetensors", "b.safetensors"])
    assert caught.value.code == "several_weights"
    with pytest.raises(CheckpointError) as caught:
        chosen_files(["q4.gguf", "q8.gguf", "config.json"])
    assert caught.value.code == "several_weights"


@pytest.mark.parametrize("names", [[], NEVER, ["config.json", "tokenizer.json"]])
def test_no_weights(names):
    with pytest.raises(CheckpointError) as caught:
        chosen_files(names)
    assert caught.value.code == "no_weights"
    assert caught.value.hint


@pytest.fixture
def files(tmp_path):
    def write(name, **content):
        folder = tmp_path / name
        folder.mkdir()
        for file, text in content.items():
            (folder / file.replace("__", ".")).write_bytes(text)
        return folder, {path.name: HubFile(path.stat().st_size) for path in folder.iterdir()}

    return write


def test_the_same_files_become_the_same_bytes(files):
    content = {"config__json": b'{"model_type": "bert"}', "model__safetensors": b"w" * 3_000_000}
    made = [one_file(*files(name, **content), lambda: None) for name in ("one", "two")]
    (first, sha256), (second, other) = made
    assert sha256 == other == hashlib.sha256(first.read_bytes()).hexdigest()
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None
        assert [info.compress_type for info in archive.infolist()] == [zipfile.ZIP_STORED] * 2


@pytest.mark.parametrize(
    "config", [b'{"architecture": "resnet18"}', b"[]", b'{"num_classes": ' + b"1" * (5 << 20) + b"}"]
)
def test_weights_that_nothing_describes_stay_alone(files, config):
    path, sha256 = one_file(*files("lone", config__json=config, model__safetensors=b"w"), lambda: None)
    assert path.name == "model.safetensors"
    assert sha256 == hashlib.sha256(b"w").hexdigest()


@pytest.mark.parametrize("config", [b"{", b"[" * 100_000, json.dumps({"auto_map": {}}).encode()])
def test_a_configuration_that_the_reader_must_judge_goes_along(files, config):
    made = files("zip", config__json=config, model__safetensors=b"w")
    assert one_file(*made, lambda: None)[0].suffix == ".zip"


GIT_ID_OF_W = "6bf0c97a7f84620a0bb4cf6380ec307748e043bd"
"""What ``git hash-object`` says of a file that holds ``w``."""


@pytest.mark.parametrize("said", [HubFile(1, sha256="0" * 64), HubFile(1, git_id="0" * 40)])
def test_bytes_that_are_not_those_of_the_hub_are_refused_and_fetched_anew(files, said):
    folder, there = files("bad", config__json=b"{}", model__safetensors=b"w")
    with pytest.raises(HubError) as caught:
        one_file(folder, there | {"model.safetensors": said}, lambda: None)
    assert caught.value.code == "hash_mismatch"
    assert [path.name for path in folder.iterdir()] == ["config.json"], "what is right stays"


def test_bytes_that_are_those_of_the_hub_pass(files):
    sha256 = hashlib.sha256(b"w").hexdigest()
    for name, said in (("large", HubFile(1, sha256=sha256)), ("small", HubFile(1, git_id=GIT_ID_OF_W))):
        folder, _ = files(name, model__safetensors=b"w")
        assert one_file(folder, {"model.safetensors": said}, lambda: None)[1] == sha256


def test_an_id_is_the_library_s_to_judge():
    settings = Settings(hub=True)
    for text in ("bert-base-uncased", "google-bert/bert-base-uncased", "o/n@refs/pr/1", "o/n@v1.0", "o/n@" + "a" * 40):
        check_asked(settings, *parse_asked(text))
    for text in ("a--b/c", "a/b.git", "a/b@x y", "a/b@..", "datasets/a/b", "a/b@x?y", "a/b@x#y"):
        with pytest.raises(InputError) as caught:
            check_asked(settings, *parse_asked(text))
        assert caught.value.code == "bad_repo_id"


def test_the_worker_that_fetches_does_nothing_else(tmp_path):
    with pytest.raises(InputError) as caught:
        run_worker(["fetch", "runs"], Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:1/0"))
    assert caught.value.code == "mixed_queues"


@pytest.fixture
def hub(monkeypatch):
    """A hub on the loopback that this process asks."""
    opened = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", opened.url)
    opened.repos["o/n"] = Repo({"model.safetensors": b"w", "config.json": b"{}", "sub/other.bin": b"x"})
    yield opened
    opened.close()


def test_a_listing_says_what_is_at_the_top_and_by_which_hash(hub):
    found = look("o/n", "main")
    assert found.commit == hub.repos["o/n"].commit
    assert found.files["model.safetensors"] == HubFile(1, sha256=hashlib.sha256(b"w").hexdigest())
    assert found.files["config.json"].git_id == hashlib.sha1(b"blob 2\0{}").hexdigest()
    assert set(found.files) == {"model.safetensors", "config.json"}
    assert hub.url not in found.source


def test_a_hub_that_falls_silent_is_left(hub, monkeypatch):
    monkeypatch.setattr(listing, "_TIMEOUT_S", 0.3)
    hub.silent_s = 3.0
    begun = time.monotonic()
    with pytest.raises(HubUnreachable):
        look("o/n", "main")
    assert time.monotonic() - begun < 2.0


def test_a_listing_that_is_too_long_or_leads_elsewhere_is_none(hub, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(listing, "_LONGEST_PAGE_BYTES", 100)
        with pytest.raises(HubError, match="no hub"):
            look("o/n", "main")
    hub.repos["o/n"] = Repo({f"{number}.txt": b"" for number in range(1500)} | {"model.safetensors": b"w"})
    assert len(look("o/n", "main").files) == 1501
    monkeypatch.setattr(constants, "ENDPOINT", hub.url.replace("127.0.0.1", "localhost"))  # pages name the other
    with pytest.raises(HubError, match="no hub"):
        look("o/n", "main")
