"""The connection to Redis: patient with a server that is starting again, and typed errors where it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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
_PATIENT_PAUSE_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


GivesUp: TypeAlias = Callable[[], bool]


def at_once() -> bool:
    """Give up as soon as the usual tries are spent: what a web page wants."""
    return True


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


def _patiently(send: Callable[[], Any], gives_up: GivesUp) -> Any:
    while True:
        try:
            with _typed():
                return send()
        except StoreUnavailable:
            if gives_up():
                raise
            time.sleep(_PATIENT_PAUSE_S)


class _Pipeline(Pipeline):
    gives_up: GivesUp = staticmethod(at_once)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = list(self.command_stack)

        def send() -> list[Any]:
            self.command_stack = list(commands)
            return super(_Pipeline, self).execute(raise_on_error)

        answers: list[Any] = _patiently(send, self.gives_up)
        return answers


class Connection(redis.Redis):
    """A Redis client whose failures are :class:`StoreUnavailable`, after about three seconds of trying.

    ``gives_up`` is asked then: where it says no, the command waits on. Scripts and single commands may so be sent
    twice, when their answer was lost; all of ours may.
    """

    gives_up: GivesUp = staticmethod(at_once)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command."""

        def send() -> Any:
            return super(Connection, self).execute_command(*args, **options)  # type: ignore[no-untyped-call]

        return _patiently(send, self.gives_up)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Several commands in one round trip; all or none of them when ``transaction``."""
        pipeline = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.gives_up = self.gives_up
        return pipeline


def _options() -> dict[str, Any]:
    return {
        "decode_responses": True,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def connect(url: str, gives_up: GivesUp = at_once) -> Client:
    """A client of the server at ``url``; nothing is sent yet. See :class:`Connection` for ``gives_up``."""
    retry = Retry(ExponentialBackoff(cap=_LONGEST_PAUSE_S, base=_FIRST_PAUSE_S), _RETRIES)
    client: Any = Connection.from_url(url, retry=retry, **_options())  # typed as its base class
    client.gives_up = gives_up
    return client


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

    def files(self, name: str, named: Sequence[str], *arguments: str | float) -> Any:
        """Run ``lua/forget.lua`` or ``lua/need.lua`` on the keys ``named``."""
        return self._script(name, prelude=False)(keys=list(named), args=arguments)

    def _script(self, name: str, prelude: bool) -> Script:
        if name not in self._loaded:
            folder = resources.files("worker.store") / "lua"
            text = (folder / "run.lua").read_text() if prelude else ""
            self._loaded[name] = self._client.register_script(text + (folder / f"{name}.lua").read_text())
        return self._loaded[name]
