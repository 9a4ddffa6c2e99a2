"""An engine process, seen from the worker: started, asked, listened to, ended. Used for one job, then thrown away."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from quant_lens_engine.errors import InternalFault
from worker import sandbox, tether
from worker.settings import Settings

_LONGEST_LINE = 256 * 2**20
_WAITING_MESSAGES = 256
_DYING_S = 2.0


class EngineDied(InternalFault):
    """The engine process ended before its job did."""

    default_code = "engine_crashed"


class Engine:
    """One engine process and the two pipes to it.

    Requests go to its standard input, one JSON object a line; answers come back on a descriptor of their own, so that
    nothing a library prints can be taken for one.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue(_WAITING_MESSAGES)
        read_end, write_end = os.pipe()
        try:
            command = sandbox.command_for(self._folder, settings, write_end)
            self._process = tether.start(
                command.argv, env=command.env, cwd=self._folder, stdin=-1, pass_fds=(write_end,)
            )
        finally:
            os.close(write_end)
        self.limits = command.limits
        self._listener = threading.Thread(target=self._listen, args=(read_end,), daemon=True, name="engine-listener")
        self._listener.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def send(self, request: Mapping[str, Any]) -> None:
        """Ask for something.

        Raises:
            EngineDied: the process has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._death() from error

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next answer, or None when there was none within ``timeout_s``.

        Raises:
            EngineDied: the process has ended, and so have its answers.
        """
        try:
            message = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if message is None:
            self._inbox.put(None)
            raise self._death()
        return message

    def memory_bytes(self) -> int:
        """Resident memory now; 0 once it has ended."""
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def end(self) -> None:
        """Kill it (nothing of it needs saving) and remove its folder."""
        self._process.kill()
        self._process.wait()
        while self._listener.is_alive():
            with contextlib.suppress(queue.Empty):
                self._inbox.get_nowait()
            self._listener.join(0.01)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _death(self) -> EngineDied:
        try:
            status = self._process.wait(_DYING_S)
        except subprocess.TimeoutExpired:  # it closed its answers, or broke the protocol, and goes on
            self._process.kill()
            status = self._process.wait()
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        return EngineDied(f"the engine process ended by itself ({how})", hint="the worker's log says more")

    def _listen(self, read_end: int) -> None:
        with os.fdopen(read_end, "rb") as answers:
            while line := answers.readline(_LONGEST_LINE):
                try:
                    message = json.loads(line)
                except ValueError:
                    break  # cut off by its death, or too long
                if not isinstance(message, dict):
                    break
                self._inbox.put(message)
        self._inbox.put(None)
