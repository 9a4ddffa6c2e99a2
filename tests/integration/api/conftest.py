"""One web server, without sign-in; limits are low so that they can be reached."""

import pytest

from quant_lens_engine.quantization.catalog import available_algorithms
from quant_lens_engine.schema import Capabilities
from tests.web_server import own_redis, web_server
from worker.store import keys


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


@pytest.fixture
def say_algorithms(server):
    """What a worker would write; before it is called none has said anything. What others wrote comes back after."""
    client = server.store.client
    before = client.getdel(keys.CAPABILITIES)
    yield lambda: server.store.capabilities.write(Capabilities(algorithms=available_algorithms()))
    client.delete(keys.CAPABILITIES)
    if before is not None:
        client.set(keys.CAPABILITIES, before)
