"""A worker that has fewer walls than its server demands opens no upload, says so, and goes on with examples.

Through the HTTP API, with a real web server and a real worker.
"""

import hashlib
import time
from pathlib import Path

import pytest

from tests.integration.worker.conftest import House
from tests.web_server import create, patch, web_server
from worker import queue

pytestmark = pytest.mark.integration


@pytest.fixture
def house(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # so that the worker finds no bubblewrap
    opened = House(tmp_path / "house", sandbox_minimum=("limits", "namespaces"))
    opened.start_worker("runs", "inspect")
    yield opened
    opened.close()


def test_uploads_are_refused_and_examples_run(house, tmp_path):
    upload = tmp_path / "upload"
    upload.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    house.store.files.add(upload, sha256, "model.safetensors", "local")
    queue.inspect(house.store, sha256)
    refused = house.submit(model={"file": sha256})  # before a worker has said that it refuses
    example = house.submit(schemes=["int8"])

    run = house.wait(refused)
    assert (run.state, run.error.code) == ("FAILED", "sandbox_below_minimum")
    assert "namespaces (bubblewrap is not installed)" in run.error.message
    assert str(tmp_path) not in run.error.message
    with web_server(house.redis.url, house.settings.data_dir) as server, server.http() as http:
        say_it_to_a_client(http, sha256)
    assert house.wait(example).state == "DONE"

    (worker,) = house.store.capabilities.workers()
    assert "namespaces" not in worker.sandbox
    assert "limits" in worker.sandbox
    assert "namespaces" in worker.refuses_uploads
    assert any("uploads are refused" in problem for problem in worker.problems)
    assert "uploads are refused" in house.log()
    assert list(Path(house.settings.files_dir).rglob(sha256))  # it is kept: another worker may have the walls


def say_it_to_a_client(http, sha256):
    url = create(http, 4, "other.pt").headers["Location"]
    uploaded = patch(http, url, 0, b"abcd").headers["Quant-Lens-Sha256"]  # the web process opens nothing
    deadline = time.monotonic() + 60
    for file in (sha256, uploaded):
        while (record := http.get(f"/api/v1/files/{file}").json())["inspection_state"] in {"waiting", "running"}:
            assert time.monotonic() < deadline, record
            time.sleep(0.05)
        assert record["error"]["code"] == "sandbox_below_minimum", record
    spec = {"model": {"file": sha256}, "data": {"example": "digits"}, "schemes": ["int8"]}
    answer = http.post("/api/v1/runs", json=spec)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "sandbox_below_minimum")
    assert "namespaces (bubblewrap is not installed)" in answer.json()["error"]["message"]
    while (ready := http.get("/readyz").json())["workers"] != "ok":
        assert time.monotonic() < deadline, ready
        time.sleep(0.1)
    assert ready["status"] == "limited"
    assert "namespaces" in ready["uploads"]
    (worker,) = http.get("/api/v1/capabilities").json()["workers"]
    assert "namespaces" in worker["refuses_uploads"]
