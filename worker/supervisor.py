"""``quant-lens up``: the store, its workers and the web page on this machine, watched, and ended together.

Every part is tied to this process (see ``tether``): whatever ends it, kill -9 included, ends them.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from quant_lens_engine.errors import InputError
from worker import tether
from worker.embedded_redis import EmbeddedRedis
from worker.settings import Settings

_TICK_S = 0.1
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0
_SETTLED_S = 30.0
"""A part that has lived so long begins its pauses anew."""
_HOPELESS = 5
"""Deaths of a part before the page has ever answered: then something is wrong that restarting does not heal."""
_PARTS_END_WITHIN_S = 3.5
_LOG_BYTES = 10 * 2**20
_TOKENS_OF_THE_HUB = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Only the worker that fetches gets them."""


class CannotStart(InputError):  # noqa: N818  (says what cannot be)
    """The data folder or the port is taken, or a part does not come up."""

    default_code = "cannot_start"


class Part:
    """One process of ours, started again when it dies."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = 0
        self._start = start
        self._started_at = 0.0
        self._start_at = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def keep_up(self) -> str | None:
        """Start what is due; what there is to tell about it, if anything."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._start_at:
                self.process = self._start()
                self._started_at = now
            return None
        code = self.process.poll()
        if code is None:
            return None
        self.process = None
        self.deaths += 1
        if now - self._started_at > _SETTLED_S:
            self._pause_s = _FIRST_PAUSE_S
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._start_at = now + pause_s
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{self.name} ended ({how}); it is started again in {pause_s:g} s"

    def end(self, signal_number: int) -> None:
        """Send a signal to it, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal_number)

    def is_running(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """All parts of a server on one machine.

    Args:
        settings: as every part gets them, but for the address of Redis.
        web: the command of the web server.
        tell: takes the few lines that people should read.
    """

    def __init__(self, settings: Settings, web: Sequence[str], tell: Callable[[str], None]) -> None:
        self._settings = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
        self._web = list(web)
        self._tell = tell
        self._logs = self._settings.data_dir / "logs"
        self._ending = False
        self._answered = False
        self._redis: EmbeddedRedis | None = None
        self._parts: list[Part] = []

    def run(self) -> int:
        """Start everything, watch it, end it on SIGTERM, SIGINT or SIGHUP; the exit code.

        Raises:
            CannotStart: the data folder or the port is taken.
        """
        with sole_user_of(self._settings.data_dir):
            _check_port(self._settings.host, self._settings.port)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, self._on_signal)
            try:
                self._start()
                return self._watch()
            finally:
                self._end()

    def _start(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        if self._settings.redis_url is None:
            self._redis = EmbeddedRedis(self._settings.data_dir / "redis", self._log("redis"))
            self._parts.append(Part("redis", self._redis.start))
            self._parts[0].keep_up()
            self._redis.wait()
        else:
            from worker.store import open_store

            open_store(self._settings).ping()
        env = self._environment()
        others = {name: value for name, value in env.items() if name not in _TOKENS_OF_THE_HUB}
        worker = [sys.executable, "-m", "worker"]
        for name, command in (
            ("web", self._web),
            ("worker-runs", [*worker, "runs"]),
            ("worker-inspect", [*worker, "inspect"]),
        ):
            self._parts.append(Part(name, self._starter(name, command, others)))
        if self._settings.hub:
            self._parts.append(Part("worker-fetch", self._starter("worker-fetch", [*worker, "fetch"], env)))

    def _watch(self) -> int:
        while not self._ending:
            for part in self._parts:
                news = part.keep_up()
                if news is not None:
                    self._tell(f"{news}\n{_tail(self._log(part.name))}")
                if part.deaths >= _HOPELESS and not self._answered:
                    self._tell(f"{part.name} does not start; its log is {self._log(part.name)}")
                    return 3
            if not self._answered and _answers(self._settings.host, self._settings.port):
                self._answered = True
                self._tell(f"Quant Lens is ready at {_address(self._settings)} (Ctrl-C ends it)")
            time.sleep(_TICK_S)
        return 0

    def _end(self) -> None:
        """The workers first give back what they hold, for which they need Redis: it goes last."""
        others = [part for part in self._parts if part.name != "redis"]
        for part in others:
            part.end(signal.SIGTERM)
        deadline = time.monotonic() + _PARTS_END_WITHIN_S
        while any(part.is_running() for part in others) and time.monotonic() < deadline:
            time.sleep(_TICK_S / 4)
        for part in others:
            part.end(signal.SIGKILL)
        if self._redis is not None and self._parts and self._parts[0].process is not None:
            self._redis.stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True

    def _environment(self) -> dict[str, str]:
        url = self._redis.url if self._redis is not None else self._settings.redis_url
        settings = self._settings.model_copy(update={"redis_url": url})
        return {**os.environ, **settings.environment(), "PYTHONUNBUFFERED": "1"}

    def _starter(self, name: str, command: Sequence[str], env: dict[str, str]) -> Callable[[], subprocess.Popen[bytes]]:
        def start() -> subprocess.Popen[bytes]:
            with self._log(name).open("ab") as log:
                return tether.start(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        return start

    def _log(self, name: str) -> Path:
        path = self._logs / f"{name}.log"
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path


def run_everything(settings: Settings, web: Sequence[str]) -> int:
    """``quant-lens up``. ``web`` is the command of the web server; the exit code."""

    def tell(text: str) -> None:
        sys.stderr.write(text.rstrip() + "\n")
        sys.stderr.flush()

    return Supervisor(settings, web, tell).run()


@contextlib.contextmanager
def sole_user_of(data_dir: Path) -> Iterator[None]:
    """Nobody else runs an own Redis on the data folder while the block lasts.

    The lock is the kernel's: it goes with the process that holds it, so a stale file locks nobody out.

    Raises:
        CannotStart: ``data_dir_in_use``, or the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "up.lock").open("a+")
    except OSError as error:
        raise CannotStart(
            f"the data folder {data_dir} cannot be written: {error.strerror}", hint="set QUANT_LENS_DATA_DIR"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise CannotStart(
                f"another `quant-lens up` (process {lock.read().strip() or 'unknown'}) uses the data folder {data_dir}",
                hint="end that one, or set QUANT_LENS_DATA_DIR",
                code="data_dir_in_use",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"{host}:{port} cannot be listened on: {error.strerror}",
                hint="end what uses it, or set QUANT_LENS_PORT",
                code="port_taken",
            ) from None


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _address(settings: Settings) -> str:
    host = _reachable(settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _tail(log: Path, lines: int = 12) -> str:
    try:
        return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
