"""The Python client against a real server."""

import hashlib
import os

import pytest

from app.client import Client, Unreachable
from quant_lens_engine.errors import InputError, SchemeError, SpecError
from worker.store.errors import BadQuery, Conflict, NotFound

pytestmark = pytest.mark.integration

SPEC = {"name": "c", "model": {"example": "digits-mlp"}, "data": {"example": "digits"}, "schemes": ["int8"]}


@pytest.fixture
def client(server):
    with Client(server.url) as opened:
        yield opened


def test_a_file_is_sent_once(client, tmp_path, monkeypatch):
    path = tmp_path / "模型.pt"
    path.write_bytes(os.urandom(1_000_000))
    arrived = []
    record = client.upload(path, progress=lambda done, total: arrived.append((done, total)))
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record.filename == "模型.pt"
    assert arrived[-1] == (1_000_000, 1_000_000)
    monkeypatch.setattr("app.client.send_file", lambda *_: pytest.fail("sent again"))
    assert client.upload(path) == record


def test_a_refused_file_is_a_typed_error_at_once(client, tmp_path):
    path = tmp_path / "big.pt"
    with path.open("wb") as file:
        file.truncate(8_000_001)
    with pytest.raises(InputError) as refused:
        client.upload(path)
    assert refused.value.code == "too_large"
    with pytest.raises(InputError) as refused:
        client.upload(tmp_path / "missing.pt")
    assert refused.value.code == "no_such_file"


def test_a_run_from_start_to_end(client):
    run = client.submit(SPEC)
    assert client.run(run.id).state == "QUEUED"
    assert client.edit(run.id, tags=["x"]).tags == ["x"]
    assert [found.id for found in client.runs("tag:x", limit=1)] == [run.id]
    assert client.result(run.id).variant("int8").evaluation is None
    assert client.cancel(run.id).state == "CANCELLED"
    assert [event.kind for event in client.events(run.id)] == ["state", "edit", "state"]
    retried = client.retry(run.id)
    assert retried.retry_of == run.id
    assert client.compare([run.id, retried.id]).baseline == run.id
    assert client.archive(run.id).archived
    assert client.export(run.id, "csv").startswith(b"variant,")
    client.delete(run.id)


def test_capabilities_come_typed(client):
    assert client.capabilities().engine_version


@pytest.mark.parametrize(
    ("call", "kind", "code"),
    [
        (lambda client: client.run("nosuch"), NotFound, "not_found"),
        (lambda client: client.delete(client.submit(SPEC).id), Conflict, "conflict"),
        (lambda client: list(client.runs("(((")), BadQuery, "bad_query"),
        (lambda client: client.submit(SPEC | {"schemes": ["int9"]}), SchemeError, "unknown_scheme"),
        (lambda client: client.submit(SPEC | {"model": {}}), SpecError, "bad_spec"),
        (lambda client: client.submit(SPEC | {"model": {"file": "0" * 64}}), InputError, "unknown_file"),
        (lambda client: list(client.events("nosuch")), NotFound, "not_found"),
    ],
)
def test_errors_come_in_their_classes(client, call, kind, code):
    with pytest.raises(kind) as raised:
        call(client)
    assert raised.value.code == code


def test_no_server_is_said():
    with pytest.raises(Unreachable) as raised, Client("http://127.0.0.1:1") as client:
        client.runs().__next__()
    assert raised.value.code == "server_unreachable"
