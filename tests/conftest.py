"""What tests of several rooms share: a real Redis-compatible server, started as ``quant-lens up`` starts it."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.web_server import own_redis
from worker.settings import Settings
from worker.store import open_store

settings.register_profile("no-clock", deadline=None)  # a busy machine is no failure; benchmarks hold the speed
settings.load_profile("no-clock")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """The URL of a real Valkey server of this test session."""
    with own_redis(tmp_path_factory.mktemp("redis-server")) as url:
        yield url


@pytest.fixture
def store(redis_server, tmp_path):
    """An empty store on the real server."""
    opened = open_store(Settings(redis_url=redis_server, data_dir=tmp_path / "data"))
    opened.client.flushdb()
    yield opened
    opened.close()
