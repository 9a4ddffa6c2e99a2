"""The store for the commands that need no server: a given Redis, the running server's own, or its own woken up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from worker.embedded_redis import EmbeddedRedis, running_address
from worker.settings import Settings, load_settings
from worker.store import Store, open_store
from worker.supervisor import sole_user_of


@contextmanager
def connected_store() -> Iterator[Store]:
    """A store of this machine's settings, whether ``quant-lens up`` is running or not."""
    settings = load_settings()
    with _redis_url(settings) as url, closing(open_store(settings.model_copy(update={"redis_url": url}))) as store:
        yield store


@contextmanager
def _redis_url(settings: Settings) -> Iterator[str]:
    url = settings.redis_url or running_address(settings.data_dir / "redis")
    if url is not None:
        yield url
        return
    with sole_user_of(settings.data_dir):
        logs = settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        own = EmbeddedRedis(settings.data_dir / "redis", logs / "redis.log")
        own.start()
        try:
            own.wait()
            yield own.url
        finally:
            own.stop()
