"""Two servers: one without sign-in, and one of a team (Alice, Bob, and Root who is an administrator)."""

from types import SimpleNamespace

import pytest

from tests.web_server import own_redis, web_server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    with own_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def lone(redis_url, tmp_path_factory):
    with web_server(redis_url, tmp_path_factory.mktemp("lone")) as server:
        yield server


@pytest.fixture(scope="session")
def team(redis_url, tmp_path_factory):
    with web_server(redis_url, tmp_path_factory.mktemp("team"), auth="token") as server:
        users = server.store.users
        tokens = {name: users.create_token(name, admin=name == "root") for name in ("alice", "bob", "root")}
        yield SimpleNamespace(server=server, **{name: server.http(token) for name, token in tokens.items()}, **{
            f"{name}_token": token for name, token in tokens.items()
        }, nobody=server.http())  # fmt: skip
