"""One web server a module, without sign-in; limits are low so that they can be reached."""

import pytest

from tests.web_server import web_server


@pytest.fixture(scope="module")
def server(redis_url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    limits = {"max_upload_bytes": 8_000_000, "quota_bytes": 60_000_000}
    with web_server(redis_url, folder, **limits) as running:
        running.store.client.flushdb()
        yield running


@pytest.fixture
def http(server):
    with server.http() as client:
        yield client
