"""Uploads that outlive the server, and uploads larger than its memory should ever grow."""

import hashlib
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.web_server import CHUNK, create, head, patch, web_server

pytestmark = pytest.mark.integration


@pytest.fixture
def redis_url(redis_url, request):
    """A database of its own: these files would use up the quota of the other tests."""
    numbers = {"at_once": 2, "instant": 3}
    return f"{redis_url[:-1]}{next((n for name, n in numbers.items() if name in request.node.name), 1)}"


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


def test_many_uploads_at_once_do_not_grow_the_web_process(redis_url, tmp_path):
    """20 of 100 MB each are in ``benchmarks/uploads.py``."""
    contents = [os.urandom(6_000_000) for _ in range(20)]

    def send(server, content):
        with server.http() as http:
            url = create(http, len(content)).headers["Location"]
            for place in range(0, len(content), 2_000_000):
                last = patch(http, url, place, content[place : place + 2_000_000])
        return last.headers["Quant-Lens-Sha256"]

    total = sum(map(len, contents))
    with (
        web_server(redis_url, tmp_path, total_quota_bytes=total) as server,
        ThreadPoolExecutor(len(contents)) as pool,
    ):
        peak = before = server.rss_bytes()
        sent = [pool.submit(send, server, content) for content in contents]
        while not all(one.done() for one in sent):
            peak = max(peak, server.rss_bytes())
            time.sleep(0.02)
        assert [one.result() for one in sent] == [hashlib.sha256(content).hexdigest() for content in contents]
        with server.http() as http:
            refused = create(http, 1)
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "quota_exceeded")
        assert f"{total:,} of {total:,} bytes" in refused.json()["error"]["message"]
        assert peak < 500e6
        assert peak - before < 128 * 2**20


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


def test_of_uploads_created_in_one_instant_no_two_are_given_the_same_room(redis_url, tmp_path):
    def begin(server, barrier):
        with server.http() as http:
            barrier.wait(timeout=30)
            return create(http, 600).status_code

    with web_server(redis_url, tmp_path, quota_bytes=1000) as server, ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8)
        answers = sorted(one.result() for one in [pool.submit(begin, server, barrier) for _ in range(8)])
        assert answers == [201] + [507] * 7
        with server.http() as http:
            assert create(http, 400).status_code == 201, "who was refused holds nothing up"
