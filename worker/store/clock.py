"""One clock for all: the Redis server's. Kept as seconds since 1970, shown as ISO 8601 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from worker.store.connection import Client


def server_time(client: Client) -> float:
    """Seconds since 1970 on the server's clock."""
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def iso(seconds: str | float | None) -> str | None:
    """A time as people and JSON want it.

    Example:
        >>> iso(0)
        '1970-01-01T00:00:00.000Z'
    """
    if seconds is None or seconds == "":
        return None
    return datetime.fromtimestamp(float(seconds), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
