"""One web server, without sign-in; limits are low so that they can be reached."""

import pytest

from tests.web_server import own_redis, web_server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    with own_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def server(redis_url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    limits = {"max_upload_bytes": 8_000_000, "quota_bytes": 60_000_000}
    with web_server(redis_url, folder, **limits) as running:
        yield running


@pytest.fixture
def http(server):
    with server.http() as client:
        yield client
