"""tus uploads, spoken by hand: what a broken or hostile client sends, and what a careful one relies on."""

import hashlib
import os
import socket
import time

import pytest

from tests.web_server import CHUNK, TUS, b64, create, head, patch

pytestmark = pytest.mark.integration


def code(response):
    return response.status_code, response.json()["error"]["code"]


def test_a_file_in_two_chunks_is_hashed_stored_and_looked_at(server, http):
    content = os.urandom(2_500_000)
    sha256 = hashlib.sha256(content).hexdigest()
    created = create(http, len(content), "../模型.pt", sha256)
    assert created.status_code == 201
    url = created.headers["Location"]
    assert url.startswith("/api/v1/uploads/")
    assert patch(http, url, 0, content[:1_000_001]).headers["Upload-Offset"] == "1000001"
    assert head(http, url).headers["Upload-Offset"] == "1000001"
    assert "Quant-Lens-Sha256" not in head(http, url).headers
    last = patch(http, url, 1_000_001, content[1_000_001:])
    assert (last.status_code, last.headers["Quant-Lens-Sha256"]) == (204, sha256)
    assert head(http, url).headers["Quant-Lens-Sha256"] == sha256
    record = http.get(f"/api/v1/files/{sha256}").json()
    assert (record["filename"], record["owner"], record["size_bytes"]) == ("模型.pt", "local", len(content))
    assert server.store.files.local_path(sha256).read_bytes() == content
    assert server.store.capabilities.queue_lengths()["inspect"] >= 1


def test_the_same_bytes_again_are_stored_once(server, http):
    content = os.urandom(1000)
    sha256 = hashlib.sha256(content).hexdigest()
    for name in ("first.pt", "second.pt"):
        url = create(http, 1000, name).headers["Location"]
        assert patch(http, url, 0, content).headers["Quant-Lens-Sha256"] == sha256
    assert server.store.files.get(sha256).filename == "first.pt"
    assert not list((server.settings.data_dir / "uploads").glob("*.part"))


def test_a_wrong_hash_is_422_and_the_bytes_are_gone(server, http):
    url = create(http, 4, sha256="0" * 64).headers["Location"]
    assert code(patch(http, url, 0, b"abcd")) == (422, "hash_mismatch")
    assert head(http, url).status_code == 404
    assert server.store.files.find(hashlib.sha256(b"abcd").hexdigest()) is None
    assert not list((server.settings.data_dir / "uploads").glob(f"{url.rpartition('/')[2]}*"))


@pytest.mark.parametrize("offset", [0, 3, 5, 100])
def test_a_wrong_offset_is_409_and_writes_nothing(http, offset):
    url = create(http, 100).headers["Location"]
    patch(http, url, 0, b"1234")
    assert code(patch(http, url, offset, b"xx")) == (409, "offset_mismatch")
    assert head(http, url).headers["Upload-Offset"] == "4"


@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [
        ({"Tus-Resumable": "0.9"}, 412, "tus_version"),
        ({"Content-Type": "text/plain"}, 415, "bad_content_type"),
        ({"Upload-Offset": "x"}, 400, "bad_request"),
        ({"Upload-Offset": "-1"}, 400, "bad_request"),
        ({"Upload-Offset": "9" * 5000}, 400, "bad_request"),
    ],
)
def test_bad_headers_are_refused_before_a_byte_is_written(http, headers, status, expected):
    url = create(http, 100).headers["Location"]
    assert code(patch(http, url, 0, b"1234", **headers)) == (status, expected)
    assert head(http, url).headers["Upload-Offset"] == "0"


def test_a_chunk_of_unknown_length_is_411(http):
    url = create(http, 100).headers["Location"]
    assert code(patch(http, url, 0, iter([b"1234"]))) == (411, "length_required")
    assert head(http, url).headers["Upload-Offset"] == "0"


def test_a_chunk_past_the_announced_length_is_413_and_writes_nothing(http):
    url = create(http, 10).headers["Location"]
    assert code(patch(http, url, 0, b"12345678901")) == (413, "chunk_too_large")
    assert head(http, url).headers["Upload-Offset"] == "0"


def test_a_file_over_the_limit_is_413_with_both_numbers(server, http):
    refused = create(http, server.settings.max_upload_bytes + 1)
    assert code(refused) == (413, "too_large")
    assert refused.json()["error"]["details"]["max_upload_bytes"] == server.settings.max_upload_bytes


def test_over_the_quota_is_507_and_unfinished_uploads_count(server, http):
    room = server.settings.quota_bytes - server.store.files.used_bytes("local")
    sizes = []
    while create(http, server.settings.max_upload_bytes).status_code == 201:
        sizes.append(server.settings.max_upload_bytes)
        assert sum(sizes) <= room
    assert code(create(http, server.settings.max_upload_bytes)) == (507, "quota_exceeded")
    for path in (server.settings.data_dir / "uploads").glob("*.json"):
        http.delete(f"/api/v1/uploads/{path.stem}", headers=TUS)
    assert create(http, 10).status_code == 201


@pytest.mark.parametrize("name", ["", "..", "n" * 300, "a\0b", "line\nbreak"])
def test_names_that_cannot_be_shown_are_refused(http, name):
    assert code(create(http, 10, name)) == (422, "bad_filename")


@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [
        ({"Upload-Length": ""}, 400, "bad_request"),
        ({"Upload-Length": "0"}, 422, "empty_file"),
        ({"Upload-Metadata": "filename ***"}, 400, "bad_metadata"),
        ({"Upload-Metadata": f"filename {b64('a.pt')},sha256 {b64('xyz')}"}, 400, "bad_metadata"),
        ({"Upload-Defer-Length": "1"}, 400, "bad_request"),
        ({"Upload-Concat": "partial"}, 400, "bad_request"),
        ({"Tus-Resumable": ""}, 412, "tus_version"),
    ],
)
def test_impossible_creations_are_refused(http, headers, status, expected):
    assert code(create(http, 10, **headers)) == (status, expected)


def test_bytes_in_the_creation_are_refused(http):
    headers = {**TUS, "Upload-Length": "4", "Upload-Metadata": f"filename {b64('a.pt')}"}
    assert code(http.post("/api/v1/uploads", headers=headers, content=b"abcd")) == (400, "bad_request")


@pytest.mark.parametrize("upload_id", ["0" * 32, "..%2f..%2fsecret.key", "x", "%00"])
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_an_upload_that_is_none_is_404(http, method, upload_id):
    response = http.request(method, f"/api/v1/uploads/{upload_id}", headers={**CHUNK, "Upload-Offset": "0"})
    assert response.status_code == 404


def test_a_deleted_upload_is_gone(server, http):
    url = create(http, 100).headers["Location"]
    patch(http, url, 0, b"1234")
    assert http.delete(url, headers=TUS).status_code == 204
    assert head(http, url).status_code == 404
    assert not list((server.settings.data_dir / "uploads").glob(f"{url.rpartition('/')[2]}*"))


def test_an_upload_whose_file_was_deleted_is_not_called_finished(server, http):
    """A browser that is given the same file again asks for its old upload, and must then send the bytes again."""
    content = os.urandom(1000)
    sha256 = hashlib.sha256(content).hexdigest()
    url = create(http, 1000).headers["Location"]
    patch(http, url, 0, content)
    assert head(http, url).headers["Quant-Lens-Sha256"] == sha256
    assert http.delete(f"/api/v1/files/{sha256}").status_code == 204
    assert head(http, url).status_code == 404
    assert not list((server.settings.data_dir / "uploads").glob(f"{url.rpartition('/')[2]}*"))


def test_options_say_what_there_is(server, http):
    facts = http.options("/api/v1/uploads").headers
    assert facts["Tus-Version"] == "1.0.0"
    assert facts["Tus-Max-Size"] == str(server.settings.max_upload_bytes)
    assert "creation" in facts["Tus-Extension"]
    assert "concatenation" not in facts["Tus-Extension"]


def test_a_broken_connection_keeps_what_arrived(server, http):
    content = os.urandom(3_000_000)
    url = create(http, len(content)).headers["Location"]
    with socket.create_connection(("127.0.0.1", server.settings.port)) as wire:
        lines = [f"PATCH {url} HTTP/1.1", f"Host: 127.0.0.1:{server.settings.port}", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in {**CHUNK, "Upload-Offset": "0"}.items()]
        wire.sendall("\r\n".join([*lines, "", ""]).encode() + content[:1_500_000])
        time.sleep(0.3)
    deadline = time.monotonic() + 5
    while (offset := int(head(http, url).headers["Upload-Offset"])) < 1_500_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert offset == 1_500_000
    last = patch(http, url, offset, content[offset:])
    assert last.headers["Quant-Lens-Sha256"] == hashlib.sha256(content).hexdigest()


def test_two_writers_at_once_never_mix(server, http):
    content = os.urandom(4_000_000)
    url = create(http, len(content)).headers["Location"]
    lines = [f"{name}: {value}" for name, value in {**CHUNK, "Upload-Offset": "0"}.items()]
    request = [f"PATCH {url} HTTP/1.1", f"Host: 127.0.0.1:{server.settings.port}", f"Content-Length: {len(content)}"]
    with socket.create_connection(("127.0.0.1", server.settings.port)) as wire:
        wire.sendall("\r\n".join([*request, *lines, "", ""]).encode() + content[:1000])
        time.sleep(0.3)
        second = patch(http, url, 0, content[:2000])
        assert code(second) in {(423, "upload_busy"), (409, "offset_mismatch")}
        wire.sendall(content[1000:])
        assert b"204" in wire.recv(4096).splitlines()[0]
    assert head(http, url).headers["Quant-Lens-Sha256"] == hashlib.sha256(content).hexdigest()
