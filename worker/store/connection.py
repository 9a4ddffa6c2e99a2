"""The connection to Redis: patient with a server that is starting again, and typed errors where it does not come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any, TypeAlias

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.client import Pipeline
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, TimeoutError
from redis.retry import Retry

from worker.store import keys
from worker.store.errors import StoreUnavailable

Client: TypeAlias = Any
"""A ``Connection``. redis-py types every answer as the union of all its modes (bytes, text, awaitable); ours decodes
to text and is synchronous, which its types cannot say."""

_RETRIES = 6
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


@contextmanager
def _typed() -> Iterator[None]:
    try:
        yield
    except (RedisConnectionError, TimeoutError, ReadOnlyError) as error:
        raise StoreUnavailable(
            "the store does not answer", hint="Redis may be starting again: try once more in a few seconds"
        ) from error
    except OutOfMemoryError as error:
        raise StoreUnavailable(
            "the store is full", code="store_full", hint="delete old runs, or give Redis more memory (maxmemory)"
        ) from error


class _Pipeline(Pipeline):
    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _typed():
            return super().execute(raise_on_error)


class Connection(redis.Redis):
    """A Redis client whose failures are :class:`StoreUnavailable` (after about three seconds of trying)."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command."""
        with _typed():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py leaves it bare

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Several commands in one round trip; all or none of them when ``transaction``."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def _options() -> dict[str, Any]:
    return {
        "decode_responses": True,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def connect(url: str) -> Client:
    """A client of the server at ``url``; nothing is sent yet."""
    retry = Retry(ExponentialBackoff(cap=_LONGEST_PAUSE_S, base=_FIRST_PAUSE_S), _RETRIES)
    return Connection.from_url(url, retry=retry, **_options())


def connect_async(url: str) -> Client:
    """The same for ``async`` readers; its methods are awaited."""
    return redis.asyncio.Redis.from_url(url, **_options())


class Scripts:
    """The Lua files beside this module. Those on a run stand behind the prelude ``lua/run.lua``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loaded: dict[str, Script] = {}

    def run(self, name: str, run_id: str, *arguments: str | float, more_keys: tuple[str, ...] = ()) -> Any:
        """Run ``lua/<name>.lua`` on a run; its first lines say what it takes and returns."""
        return self._script(name, prelude=True)(keys=[*keys.run_keys(run_id), *more_keys], args=arguments)

    def job(self, verb: str, job: str, token: str = "", lease_s: float = 0.0) -> bool:
        """Run ``lua/job.lua``; see :class:`worker.store.jobs.Jobs`."""
        return bool(self._script("job", prelude=False)(keys=[keys.JOBS], args=[verb, job, token, lease_s]))

    def _script(self, name: str, prelude: bool) -> Script:
        if name not in self._loaded:
            folder = resources.files("worker.store") / "lua"
            text = (folder / "run.lua").read_text() if prelude else ""
            self._loaded[name] = self._client.register_script(text + (folder / f"{name}.lua").read_text())
        return self._loaded[name]
