"""Models from a hub on the loopback, fetched by a real worker, through the HTTP API."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
import zipfile

import httpx
import pytest

from app.client import Client
from quant_lens_engine.errors import InputError, QuantLensError
from tests.hub_server import Hub, Repo, repo_of
from tests.integration.worker.conftest import House
from tests.language_models import sentences, tiny_bert, write_jsonl
from tests.web_server import web_server

pytestmark = pytest.mark.integration

QUICK = {"preset": "quick", "line": {"steps": 3}, "plane": {"steps": 0}, "curvature": {"trace_probes": 4}}
TOKEN = "hf_never_to_be_shown"
MAX_BYTES, QUOTA_BYTES = 45_000_000, 40_000_000


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The hub that workers of this module are told of, and no other."""
    opened = Hub()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", opened.url)
        patch.setenv("HF_TOKEN", TOKEN)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        yield opened
    opened.close()


@pytest.fixture(scope="module")
def hub_house(hub, tmp_path_factory):
    opened = House(
        tmp_path_factory.mktemp("house"), hub=True, max_upload_bytes=MAX_BYTES, quota_bytes=QUOTA_BYTES,
        total_quota_bytes=10 * QUOTA_BYTES,
    )  # fmt: skip
    opened.start_worker("runs", "inspect")
    opened.start_worker("fetch")
    opened.wait_for_workers(2)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(hub_house):
    settings = hub_house.settings
    limits = {"max_upload_bytes": MAX_BYTES, "quota_bytes": QUOTA_BYTES}
    with web_server(settings.redis_url, hub_house.folder, hub=True, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with Client(server.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def bert(hub, tmp_path_factory):
    """A repository as many are: with code, an older copy of the weights and other things beside them."""
    folder = tmp_path_factory.mktemp("bert")
    tiny_bert(folder)
    pickled = b"\x80\x04cos\nsystem\n"
    hub.repos["team/bert"] = dataclasses.replace(
        repo_of(
            folder, modeling_mine__py=b"raise SystemExit", pytorch_model__bin=pickled, training_args__bin=pickled,
            README__md=b"# it", tf_model__h5=b"h5",
        ),
        revisions=("main", "v1.0"),
    )  # fmt: skip
    return hub.repos["team/bert"]


@pytest.fixture(autouse=True)
def _good_mood(hub):
    hub.asked.clear()
    hub.pause_s, hub.cut_after, hub.is_down = 0.0, None, False


def client_http(client):
    return httpx.Client(base_url=client.server, timeout=30)


def blob(megabytes: int) -> bytes:
    """A valid safetensors file of so many megabytes."""
    import numpy as np
    from safetensors.numpy import save

    draw = np.random.default_rng(megabytes)
    return save({"layer.weight": draw.standard_normal((250, megabytes * 1000)).astype(np.float32)})


def test_a_model_comes_is_understood_and_measured(client, hub, hub_house, bert, tmp_path):
    seen = []
    file = client.fetch("team/bert", progress=lambda done, total: seen.append((done, total)))
    assert file.filename == "team--bert@01234567.zip"
    assert seen[-1][0] == seen[-1][1]
    with zipfile.ZipFile(hub_house.store.files.local_path(file.sha256)) as archive:
        found = {info.filename: (info.compress_type, archive.read(info)) for info in archive.infolist()}
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(found) - {"special_tokens_map.json"} == wanted
    assert all(compressed == zipfile.ZIP_STORED for compressed, _ in found.values())
    assert all(content == bert.files[name] for name, (_, content) in found.items())

    names = {one.path.rpartition("/")[2] for one in hub.asked if "/resolve/" in one.path}
    assert names == set(found), "nothing else was asked for: no code, no pickle"
    known = client.inspection(file.sha256)
    assert known.inspection_state == "done", known
    assert known.inspection["format"] == "hugging-face"
    assert known.inspection["architectures"][0]["architecture"] == "BertForMaskedLM"
    texts = client.upload(write_jsonl(tmp_path / "t.jsonl", sentences(30)))
    run = client.submit({
        "model": {"file": file.sha256}, "data": {"file": texts.sha256, "text": {"length": 10}}, "task": "masked-lm",
        "schemes": ["int8"], "analyses": QUICK,
    })  # fmt: skip
    run = client.wait(run.id, timeout_s=240)
    assert (run.state, run.failures) == ("DONE", []), run
    assert client.result(run.id).variant("int8").quantized_layers > 0


def test_the_token_goes_to_the_hub_alone_and_nowhere_else(client, hub, hub_house, server, bert):
    hub.repos["team/token"] = dataclasses.replace(bert, commit="d" * 40)
    client.fetch("team/token")
    to_hub = [one.token for one in hub.asked if not one.path.startswith("/cdn/")]
    to_cdn = [one.token for one in hub.asked if one.path.startswith("/cdn/")]
    assert set(to_hub) == {f"Bearer {TOKEN}"}
    assert set(to_cdn) == {None}
    logs = hub_house.log() + server.log.read_text()
    assert TOKEN not in logs
    assert "/cdn/" not in logs
    dumped = [hub_house.store.client.get(key) for key in hub_house.store.client.keys("*:fetch:*")]
    assert dumped
    assert not any(TOKEN in text for text in dumped)


def test_the_same_commit_comes_once_and_is_the_same_file_if_it_comes_again(client, hub, hub_house, bert):
    hub.repos["team/twice"] = dataclasses.replace(bert, commit="2" * 40)
    first = client.fetch("team/twice")
    hub.asked.clear()
    assert client.fetch("team/twice", "v1.0").sha256 == first.sha256
    assert client.fetch("team/twice", "2" * 40).sha256 == first.sha256
    assert hub.bodies() == []
    assert first.sha256 == client.fetch("team/bert").sha256  # the same bytes under another name
    hub_house.store.client.delete(*hub_house.store.client.keys("*:fetched:*"))  # as after a long time
    hub.asked.clear()
    assert client.fetch("team/twice").sha256 == first.sha256
    assert hub.bodies("model.safetensors")
    assert not any(hub_house.settings.hub_dir.glob("[!.]*")), "what was fetched lies in the store alone"


def refused(client, repo, revision="main") -> QuantLensError:
    with pytest.raises(QuantLensError) as caught:
        client.fetch(repo, revision)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(("size", "code"), [(MAX_BYTES + 1, "too_large"), (QUOTA_BYTES, "quota_exceeded")])
def test_what_does_not_fit_is_refused_before_a_byte(client, hub, bert, size, code):
    hub.repos["team/large"] = dataclasses.replace(bert, commit="b" * 40, said={"model.safetensors": size})
    assert refused(client, "team/large").code == code
    assert hub.bodies() == []


@pytest.mark.parametrize(
    ("access", "revision", "code", "told"),
    [
        ("private", "main", "hub_not_found", "HF_TOKEN"),
        ("gated", "main", "hub_gated", "access"),
        ("public", "v9", "hub_unknown_revision", "commit"),
    ],
)
def test_what_the_hub_refuses_is_told(client, hub, bert, access, revision, code, told):
    hub.repos["team/closed"] = dataclasses.replace(bert, commit="c" * 40, access=access)
    error = refused(client, "team/closed", revision)
    assert error.code == code
    assert told in error.hint
    assert TOKEN not in error.message + error.hint


def test_a_private_one_and_none_at_all_look_alike(client, hub, bert):
    hub.repos["team/closed"] = dataclasses.replace(bert, access="private")
    private, absent = refused(client, "team/closed"), refused(client, "team/absent")
    assert private.code == absent.code == "hub_not_found"
    assert private.message.replace("team/closed", "") == absent.message.replace("team/absent", "")


def test_a_repository_without_weights_says_what_is_there(client, hub):
    hub.repos["team/keras"] = Repo({"config.json": b"{}", "tf_model.h5": b"", "modeling.py": b""}, commit="e" * 40)
    error = refused(client, "team/keras")
    assert error.code == "no_weights"
    assert "tf_model.h5" in error.message
    assert "save_pretrained" in error.hint
    assert hub.bodies() == []


def test_a_hub_that_is_away_is_told_and_the_next_try_works(client, hub, bert):
    hub.repos["team/away"] = dataclasses.replace(bert, commit="a" * 40)
    hub.is_down = True
    assert refused(client, "team/away").code == "hub_unreachable"
    hub.is_down = False
    assert client.fetch("team/away").filename == "team--bert@01234567.zip"  # the file is there: it keeps its name


def test_lone_weights_are_stored_as_they_are(client, hub):
    content = blob(1)
    timm = b'{"architecture": "resnet18", "num_classes": 10}'  # of timm: no class of transformers
    hub.repos["team/lone"] = Repo({"config.json": timm, "model.safetensors": content}, commit="1" * 40)
    file = client.fetch("team/lone")
    assert (file.filename, file.size_bytes) == ("team--lone@11111111.safetensors", len(content))


def test_a_broken_connection_goes_on_where_it_broke(client, hub):
    content = blob(2)
    hub.repos["team/cut"] = Repo({"model.safetensors": content}, commit="7" * 40)
    hub.cut_after = 1_000_000
    assert client.fetch("team/cut").size_bytes == len(content)
    first, second = hub.bodies("model.safetensors")
    assert first.range is None
    assert 0 < int(second.range.removeprefix("bytes=").rstrip("-")) <= 1_100_000


def test_damaged_bytes_are_no_model(client, hub):
    hub.repos["team/damaged"] = Repo(
        {"model.safetensors": blob(1)}, commit="9" * 40, hashes={"model.safetensors": "0" * 64}
    )
    assert refused(client, "team/damaged").code == "hash_mismatch"


def test_a_commit_that_is_a_path_names_no_folder(client, hub, hub_house):
    hub.repos["team/elsewhere"] = Repo({"model.safetensors": b"x"}, commit="../../../elsewhere")
    assert refused(client, "team/elsewhere").code == "hub_refused"
    assert not list(hub_house.folder.parent.rglob("elsewhere"))


def test_while_one_comes_files_are_looked_at_and_a_cancelled_one_is_gone(client, hub, hub_house, bert, tmp_path):
    hub.repos["team/slow"] = Repo({"model.safetensors": blob(3)}, commit="5" * 40)
    hub.pause_s = 0.3
    with client_http(client) as http:
        asked = http.post("/api/v1/hub", json={"repo": "team/slow"})
        assert asked.status_code == 202
        key = asked.json()["key"]
        assert asked.headers["location"] == f"/api/v1/hub/{key}"
        assert http.post("/api/v1/hub", json={"repo": "team/slow"}).json()["key"] == key  # the same one
        deadline = time.monotonic() + 30
        while not (record := http.get(f"/api/v1/hub/{key}").json())["bytes_done"]:
            assert record["state"] != "failed", record
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert record["state"] == "running"
        assert record["bytes_total"] == len(hub.repos["team/slow"].files["model.safetensors"])
        assert record["commit"] == "5" * 40
        texts = client.upload(write_jsonl(tmp_path / "t.jsonl", sentences(7)))
        assert client.inspection(texts.sha256).inspection_state == "done"
        assert http.get(f"/api/v1/hub/{key}").json()["state"] == "running"
        assert http.delete(f"/api/v1/hub/{key}").status_code == 204
        assert http.get(f"/api/v1/hub/{key}").status_code == 404
        deadline = time.monotonic() + 20
        while (hub_house.settings.hub_dir / key).exists():
            assert time.monotonic() < deadline, "what came of it is still there"
            time.sleep(0.1)
        hub.pause_s = 0.0
    assert client.fetch("team/bert").sha256  # the worker goes on with others


def test_it_is_its_owner_s_alone_and_an_administrator_s(hub, hub_house, tmp_path):
    hub.repos["team/owned"] = Repo({"model.safetensors": blob(4)}, commit="4" * 40)
    hub.pause_s = 0.2
    with web_server(hub_house.redis.url, tmp_path / "web", hub=True, auth="token", secret_key="k" * 40) as closed:
        alice, bob = (closed.store.users.create_token(name, False) for name in ("alice", "bob"))
        admin = closed.store.users.create_token("root", True)
        with closed.http(alice) as mine, closed.http(bob) as other, closed.http(admin) as all_of_them:
            key = mine.post("/api/v1/hub", json={"repo": "team/owned"}).json()["key"]
            for ask in (other.get, other.delete):
                answer = ask(f"/api/v1/hub/{key}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
            assert all_of_them.get(f"/api/v1/hub/{key}").json()["owner"] == "alice"
            assert mine.get(f"/api/v1/hub/{key}").status_code == 200
            assert mine.delete(f"/api/v1/hub/{key}").status_code == 204


@pytest.mark.parametrize("asked", ["no spaces", "a/b/c", "../etc", "https://elsewhere/x", "a/b@../../x", "-a/b", ""])
def test_what_is_no_id_is_refused_at_once(server, hub, asked):
    repo, _, revision = asked.partition("@")
    with server.http() as http:
        answer = http.post("/api/v1/hub", json={"repo": repo, "revision": revision or "main"})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_repo_id"
    assert "owner/name" in answer.json()["error"]["hint"]
    assert hub.asked == []


def test_off_by_default(hub, hub_house, tmp_path):
    with web_server(hub_house.redis.url, tmp_path / "web") as closed, closed.http() as http:
        answer = http.post("/api/v1/hub", json={"repo": "team/bert"})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "hub_off"
        assert "QUANT_LENS_HUB=1" in answer.json()["error"]["hint"]
        with Client(closed.url) as off, pytest.raises(InputError) as caught:
            off.fetch("team/bert")
        assert caught.value.code == "hub_off"


def test_the_command_line_submits_a_model_of_the_hub(server, bert, tmp_path):
    texts = write_jsonl(tmp_path / "t.jsonl", sentences(9))
    options = ["--task", "masked-lm", "--scheme", "int8", "--preset", "quick", "--no-wait", "--server", server.url]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "submit", "hub:team/bert@v1.0", "--data", str(texts), *options],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "team--bert@01234567.zip" in done.stderr
    run = server.store.runs.get(done.stdout.split()[-1])
    assert run.name == "team/bert@v1.0, int8"
    assert run.spec["model"]["file"]
    server.store.runs.request_cancel(run.id)


def test_what_takes_too_long_ends_and_the_next_try_goes_on(hub, tmp_path):
    from worker import queue

    hub.repos["team/long"] = Repo({"model.safetensors": blob(5)}, commit="6" * 40)
    hub.pause_s = 0.1
    house = House(tmp_path, hub=True, hub_time_limit_s=2.0)
    try:
        with pytest.raises(QuantLensError) as caught:
            queue.fetch(house.store, "team/long", "main", "local")
        assert caught.value.code == "no_fetcher"
        house.start_worker("fetch")
        house.wait_for_workers(1)
        key = queue.fetch(house.store, "team/long", "main", "local").key
        record = until_ended(house, key)
        assert (record.state, record.error.code) == ("failed", "time_limit")
        assert "QUANT_LENS_HUB_TIME_LIMIT_S" in record.error.hint
        hub.pause_s = 0.0
        assert queue.fetch(house.store, "team/long", "main", "local").key == key
        assert until_ended(house, key).state == "done"
        assert int(hub.bodies("model.safetensors")[-1].range.removeprefix("bytes=").rstrip("-")) > 500_000
    finally:
        house.close()


def until_ended(house, key, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not (record := house.store.fetches.get(key)).has_ended:
        assert time.monotonic() < deadline, house.log()
        time.sleep(0.05)
    return record


def test_a_killed_worker_s_bytes_are_gone_on_with(hub, tmp_path):
    """Killed in the middle of a file, its successor asks for the rest of it."""
    content = blob(4)
    hub.repos["team/kill"] = Repo({"config.json": b"{}", "model.safetensors": content}, commit="8" * 40)
    hub.pause_s = 0.15
    house = House(tmp_path, hub=True)
    try:
        from worker import queue

        first = house.start_worker("fetch")
        house.wait_for_workers(1)
        key = queue.fetch(house.store, "team/kill", "main", "local").key
        deadline = time.monotonic() + 60
        while house.store.fetches.get(key).bytes_done < 1_500_000:
            assert time.monotonic() < deadline, house.log()
            time.sleep(0.05)
        first.kill()
        first.wait()
        hub.pause_s = 0.0
        house.start_worker("fetch")
        record = until_ended(house, key)
        assert (record.state, record.bytes_done) == ("done", len(content)), record
        assert house.store.files.local_path(record.sha256).read_bytes() == content
        first_try, second_try = hub.bodies("model.safetensors")
        assert first_try.range is None
        assert int(second_try.range.removeprefix("bytes=").rstrip("-")) >= 1_000_000
        assert len(hub.bodies("config.json")) == 1
        assert os.listdir(tmp_path / "hub") == [".locks"]
    finally:
        house.close()
