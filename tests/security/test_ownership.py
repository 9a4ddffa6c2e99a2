"""Members see everything that is finished; only the owner or an administrator changes it."""

import hashlib
import os

import pytest

from tests.web_server import CHUNK, TUS, create, head, patch

pytestmark = pytest.mark.integration

SPEC = {"model": {"example": "digits-mlp"}, "data": {"example": "digits"}, "schemes": ["int8"]}


def code(response):
    return response.status_code, response.json()["error"]["code"]


def test_the_owner_is_who_asked(team):
    assert team.alice.post("/api/v1/runs", json=SPEC).json()["owner"] == "alice"


def test_others_read_but_do_not_change(team):
    run = f"/api/v1/runs/{team.alice.post('/api/v1/runs', json=SPEC).json()['id']}"
    for path in ("", "/result", "/export.json", "/export.csv"):
        assert team.bob.get(run + path).status_code == 200
    assert code(team.bob.patch(run, json={"name": "mine"})) == (403, "forbidden")
    assert code(team.bob.post(f"{run}/cancel")) == (403, "forbidden")
    assert code(team.bob.post(f"{run}/archive")) == (403, "forbidden")
    assert code(team.bob.delete(run)) == (403, "forbidden")
    assert team.alice.get(run).json()["state"] == "QUEUED"
    assert team.root.patch(run, json={"note": "seen"}).status_code == 200
    assert team.alice.post(f"{run}/cancel").json()["state"] == "CANCELLED"
    retried = team.bob.post(f"{run}/retry")
    assert (retried.status_code, retried.json()["owner"]) == (201, "bob")
    assert team.root.delete(run).status_code == 204


def test_an_unfinished_upload_is_its_owner_s_alone(team):
    url = create(team.alice, 100).headers["Location"]
    patch(team.alice, url, 0, b"1234")
    for other in (team.bob, team.root):
        assert head(other, url).status_code == 404
        assert code(patch(other, url, 4, b"xx")) == (404, "not_found")
        assert code(other.delete(url, headers=TUS)) == (404, "not_found")
    override = {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "4", **CHUNK}
    assert code(team.bob.post(url, content=b"xx", headers=override)) == (404, "not_found")
    assert head(team.alice, url).headers["Upload-Offset"] == "4"


def test_a_finished_file_is_everyone_s_to_use_and_its_owner_s_to_delete(team):
    content = os.urandom(100)
    sha256 = hashlib.sha256(content).hexdigest()
    patch(team.alice, create(team.alice, 100).headers["Location"], 0, content)
    assert team.bob.get(f"/api/v1/files/{sha256}").json()["owner"] == "alice"
    assert code(team.bob.delete(f"/api/v1/files/{sha256}")) == (403, "forbidden")
    run = team.bob.post("/api/v1/runs", json=SPEC | {"model": {"file": sha256}}).json()
    assert code(team.alice.delete(f"/api/v1/files/{sha256}")) == (409, "conflict")
    team.bob.post(f"/api/v1/runs/{run['id']}/cancel")
    team.bob.delete(f"/api/v1/runs/{run['id']}")
    assert team.alice.delete(f"/api/v1/files/{sha256}").status_code == 204
