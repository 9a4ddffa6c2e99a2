"""Uploads that outlive the server, and uploads larger than its memory should ever grow."""

import hashlib
import os
import subprocess
import time

import pytest

from tests.web_server import CHUNK, create, head, patch, web_server

pytestmark = pytest.mark.integration


@pytest.fixture
def redis_url(redis_url):
    """A database of its own: these files would use up the quota of the other tests."""
    return f"{redis_url[:-1]}1"


def test_an_upload_goes_on_after_the_server_was_killed(redis_url, tmp_path):
    content = os.urandom(5_000_000)
    with web_server(redis_url, tmp_path) as server:
        with server.http() as http:
            url = create(http, len(content)).headers["Location"]
            patch(http, url, 0, content[:3_333_333])
        server.process.kill()
    with web_server(redis_url, tmp_path) as server, server.http() as http:
        offset = int(head(http, url).headers["Upload-Offset"])
        assert offset == 3_333_333
        last = patch(http, url, offset, content[offset:])
        assert last.headers["Quant-Lens-Sha256"] == hashlib.sha256(content).hexdigest()


def test_a_large_file_does_not_grow_the_web_process(redis_url, tmp_path):
    size = 400 * 2**20
    zeros = tmp_path / "zeros.pt"
    with zeros.open("wb") as file:
        file.truncate(size)
    with web_server(redis_url, tmp_path / "data") as server, server.http() as http:
        url = create(http, size).headers["Location"]
        before = server.rss_bytes()
        sending = subprocess.Popen(
            ["curl", "-sf", "-X", "PATCH", server.url + url, "-T", str(zeros)]
            + [part for name, value in {**CHUNK, "Upload-Offset": "0", "Expect": ""}.items()
               for part in ("-H", f"{name}: {value}")]
        )  # fmt: skip
        peak = before
        while sending.poll() is None:
            peak = max(peak, server.rss_bytes())
            assert http.get("/healthz").status_code == 200
            time.sleep(0.05)
        assert sending.returncode == 0
        assert head(http, url).headers["Upload-Offset"] == str(size)
        assert peak - before < 64 * 2**20
