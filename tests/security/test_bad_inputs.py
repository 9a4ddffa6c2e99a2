"""Every bad input of the list, through the HTTP API to a real worker.

Each gets the answer that is stated, has no effect outside, and leaves the worker alive; good files among them are read,
and after all of them a good run ends well.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.security.bad_inputs import BAD_FILES
from tests.web_server import create, own_redis, patch, web_server

pytestmark = pytest.mark.integration

CHUNK_BYTES = 4 << 20
PATIENCE_S = 120


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    with own_redis(folder) as url, web_server(url, folder / "web", memory_limit_bytes=2**31) as running:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QUANT_LENS_")}
        environment |= running.settings.environment() | {"OMP_NUM_THREADS": "1"}
        with (folder / "worker.log").open("wb") as log:
            workers = [
                subprocess.Popen([sys.executable, "-m", "worker", kind], env=environment, stdout=log, stderr=log)
                for kind in ("runs", "inspect")
            ]
        running.workers = workers
        yield running
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(30)


@pytest.fixture(scope="module")
def http(server):
    with server.http() as client:
        yield client


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code in the file was run"


def send(http, path: Path, filename: str):
    """Upload in chunks; the file's SHA-256, or the answer that refused it."""
    content = path.read_bytes()
    created = create(http, len(content), filename)
    if created.status_code != 201:
        return created
    for first in range(0, len(content), CHUNK_BYTES):
        answer = patch(http, created.headers["Location"], first, content[first : first + CHUNK_BYTES])
        assert answer.status_code == 204, answer.text
    return answer.headers["Quant-Lens-Sha256"]


def inspected(http, sha256: str) -> dict:
    """The file's record, once a worker has looked at it."""
    deadline = time.monotonic() + PATIENCE_S
    while (record := http.get(f"/api/v1/files/{sha256}").json())["inspection_state"] in ("waiting", "running"):
        assert time.monotonic() < deadline, record
        time.sleep(0.05)
    return record


def good_file(tmp_path: Path) -> Path:
    """A state dict that nobody has sent before."""
    path = tmp_path / "good.pt"
    torch.save({"w": torch.from_numpy(np.frombuffer(os.urandom(64), np.uint8).astype(np.float32))}, path)
    return path


def ended(http, run_id: str) -> dict:
    deadline = time.monotonic() + PATIENCE_S
    while (run := http.get(f"/api/v1/runs/{run_id}").json())["state"] in ("QUEUED", "RUNNING"):
        assert time.monotonic() < deadline, run
        time.sleep(0.1)
    return run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", sorted(BAD_FILES))
def test_a_bad_file(server, http, canary, tmp_path, number):
    bad = BAD_FILES[number]
    path = tmp_path / bad.filename
    bad.make(path, canary)
    assert not canary.exists(), "making the file ran its code"
    found = send(http, path, bad.filename)
    if isinstance(found, str):
        record = inspected(http, found)
        error = record["error"]
    else:
        error = found.json()["error"]
    if error is None:
        assert "" in bad.codes, f"it was read: {record['inspection']}"
    else:
        assert error["code"] in bad.codes, error
        assert error["hint"]
        assert str(server.settings.data_dir) not in str(error)
        assert "/tmp" not in str(error)
    assert [worker.poll() for worker in server.workers] == [None, None]
    if number % 5 == 0:  # a process for each file: five bad ones are followed by a good one
        good = inspected(http, send(http, good_file(tmp_path), "good.pt"))
        assert good["inspection_state"] == "done", good


def state_of_an_mlp(**changes) -> bytes:
    state = {
        "hidden1.weight": torch.randn(8, 64), "hidden1.bias": torch.randn(8), "hidden2.weight": torch.randn(6, 8),
        "hidden2.bias": torch.randn(6), "classifier.weight": torch.randn(10, 6), "classifier.bias": torch.randn(10),
    } | changes  # fmt: skip
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def run_of(http, tmp_path, content: bytes, architecture: str = "digits-mlp") -> dict:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    spec = {
        "name": "bad", "model": {"file": send(http, path, "model.pt"), "architecture": architecture},
        "data": {"example": "digits", "limit": 64}, "schemes": ["int8"],
        "analyses": {"preset": "quick", "line": {"steps": 3}, "plane": {"steps": 0}},
    }  # fmt: skip
    created = http.post("/api/v1/runs", json=spec)
    assert created.status_code == 201, created.text
    return ended(http, created.json()["id"])


def test_51_weights_that_are_nan(http, tmp_path):
    weights = torch.randn(6, 8)
    weights[2, 3] = float("nan")
    run = run_of(http, tmp_path, state_of_an_mlp(**{"hidden2.weight": weights}))
    assert (run["state"], run["error"]["code"]) == ("FAILED", "non_finite_weights")
    assert run["error"]["details"]["tensors"] == ["hidden2.weight"]


def test_52_an_architecture_that_does_not_fit(http, tmp_path):
    run = run_of(http, tmp_path, state_of_an_mlp(), "digits-cnn")
    assert (run["state"], run["error"]["code"]) == ("FAILED", "architecture_mismatch")
    differences = run["error"]["details"]["match"]["differences"]
    assert {"key": "hidden1.weight", "found": [8, 64], "wanted": None, "kind": "unexpected"} in differences
    assert "digits-mlp" in run["error"]["hint"]


@pytest.mark.parametrize("name", ["", "n" * 300, "a\0b"])
def test_53_names_that_cannot_be_shown(http, name):
    refused = create(http, 10, name)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "bad_filename")


@pytest.mark.parametrize(("name", "shown"), [("../x", "x"), ("模型.pt", "模型.pt")])
def test_53_names_that_can(http, tmp_path, name, shown):
    sha256 = send(http, good_file(tmp_path), name)
    assert http.get(f"/api/v1/files/{sha256}").json()["filename"] == shown


@pytest.mark.parametrize("offset", [2, 6])
def test_54_a_chunk_that_overlaps_or_leaves_a_gap(http, offset):
    url = create(http, 100).headers["Location"]
    patch(http, url, 0, b"1234")
    refused = patch(http, url, offset, b"5678")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "offset_mismatch")


def test_55_a_hash_that_is_another(http):
    url = create(http, 4, sha256=hashlib.sha256(b"other").hexdigest()).headers["Location"]
    refused = patch(http, url, 0, b"abcd")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "hash_mismatch")


def test_56_over_the_quota_and_a_chunk_that_is_too_large(server, http, tmp_path):
    with web_server(server.settings.redis_url, tmp_path, quota_bytes=1000) as small, small.http() as client:
        refused = create(client, 1001)
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "quota_exceeded")
    url = create(http, 4).headers["Location"]
    refused = patch(http, url, 0, b"12345")
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "chunk_too_large")


def test_57_the_upload_of_another(team):
    url = create(team.alice, 10).headers["Location"]
    assert patch(team.bob, url, 0, b"0123456789").status_code == 404
    assert patch(team.alice, url, 0, b"0123456789").status_code == 204


def test_58_a_script_in_a_name_or_a_note(http):
    script = "<script>alert(1)</script>"
    spec = {"name": script, "model": {"example": "digits-mlp"}, "data": {"example": "digits"}, "schemes": ["int8"]}
    run = http.post("/api/v1/runs", json=spec).json()
    http.patch(f"/api/v1/runs/{run['id']}", json={"note": script})
    for address in (f"/runs/{run['id']}", "/", f"/api/v1/runs/{run['id']}/export.html"):
        assert script not in http.get(address).text
    http.post(f"/api/v1/runs/{run['id']}/cancel")


def test_59_a_foreign_origin(http):
    refused = http.post("/api/v1/runs", json={}, headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403
    assert refused.json()["error"]["code"]


def test_after_all_of_them_a_good_run_ends_well(server, http, tmp_path):
    run = run_of(http, tmp_path, state_of_an_mlp())
    assert run["state"] == "DONE", run
    assert [worker.poll() for worker in server.workers] == [None, None]


def test_the_list_is_whole():
    assert sorted(BAD_FILES) == list(range(1, 51))


def test_the_document_lists_every_one_with_its_answer():
    lines = (Path(__file__).parents[2] / "docs/security.md").read_text().splitlines()
    table = {
        int(line.split("|")[1]): line
        for line in lines
        if line.startswith("| ") and line.split("|")[1].strip().isdigit()
    }
    assert sorted(table) == list(range(1, 60))
    for number, bad in BAD_FILES.items():
        assert bad.title in table[number]
        assert all(f"`{code}`" in table[number] for code in bad.codes if code)
