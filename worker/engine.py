"""An engine process, seen from the worker: started, asked, listened to, ended. Used for one job, then thrown away."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from quant_lens_engine.errors import InternalFault
from worker import sandbox, tether
from worker.answer_check import LONGEST_ANSWER_BYTES
from worker.checkpoints import Checkpoints
from worker.settings import Settings

log = logging.getLogger(__name__)

_LONGEST_LINE = 64 * 2**20
_LONGEST_ANSWER_LINE = 2 * LONGEST_ANSWER_BYTES  # JSON may be written with more bytes than it needs
_BLOCK = 2**16
_WAITING_MESSAGES = 4  # the pipe holds back what is more
_QUESTIONS = {"inspect_file", "check"}
_DYING_S = 2.0
_BY_SIGNAL = 128


class EngineDied(InternalFault):
    """The engine process ended before its job did."""

    default_code = "engine_crashed"


class Engine:
    """One engine process and the two pipes to it.

    Requests go to its standard input, one JSON object a line; answers come back on a descriptor of their own, so that
    nothing a library prints can be taken for one.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._survey = sandbox.survey(settings)
        self._minimum = settings.sandbox_minimum
        self._folder = sandbox.JobFolder(folder, is_nobodys="user" in self._survey.standing)
        self._checkpoints = Checkpoints(settings)
        self._longest_line = _LONGEST_LINE
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue(_WAITING_MESSAGES)
        read_end, write_end = os.pipe()
        try:
            command = sandbox.command_for(
                self._folder.path, settings, self._survey.standing, write_end, module="worker.engine_process"
            )
            self._process = tether.start(
                command.argv, env=command.env, cwd=command.plan.work, stdin=-1, pass_fds=(write_end,)
            )
        finally:
            os.close(write_end)
        self.limits = command.plan.limits
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
        """Ask for something. Files that a request names (``files``, ``path``) are brought into the process' folder.

        Raises:
            EngineDied: the process has ended.
            SandboxError: the request names a file, and the walls are fewer than this server demands.
        """
        assert self._process.stdin is not None
        request = self._with_files_brought(request)
        self._longest_line = _LONGEST_ANSWER_LINE if request["op"] in _QUESTIONS else _LONGEST_LINE
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

    def checkpoint(self, fingerprint: str) -> str:
        """The folder of a stage, with what an earlier process has left there; it goes back when this one ends."""
        place = self._checkpoints.lend(fingerprint, self._folder.checkpoints)
        if place.is_dir():
            self._folder.admit(place)
        return str(place)

    def memory_bytes(self) -> int:
        """Resident memory now, of bubblewrap's processes too; 0 once it has ended."""
        total = 0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for part in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += int(part.memory_info().rss)
        return total

    def disk_bytes(self) -> float:
        """What it has written into its folder, in bytes."""
        return self._folder.disk_bytes()

    def end(self) -> None:
        """Kill it (nothing of it but its checkpoints needs saving) and remove its folder."""
        self._kill()
        self._process.wait()
        while self._listener.is_alive():
            with contextlib.suppress(queue.Empty):
                self._inbox.get_nowait()
            self._listener.join(0.01)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._checkpoints.take_back(self._folder.checkpoints)
        self._folder.remove()

    def _kill(self) -> None:
        """Its group, too: bubblewrap that is killed in its first milliseconds leaves a child behind that has not
        yet asked the kernel to die with it, and that waits for bubblewrap for ever."""
        if self._process.poll() is None:  # not reaped, so the group's number is its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _with_files_brought(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        files: Mapping[str, str] = request.get("files", {})
        path: str | None = request.get("path")
        if not files and path is None:
            return request
        self._survey.check(self._minimum)
        brought = {**request, "files": {name: self._folder.bring(there) for name, there in files.items()}}
        return brought if path is None else {**brought, "path": self._folder.bring(path)}

    def _death(self) -> EngineDied:
        try:
            status = self._process.wait(_DYING_S)
        except subprocess.TimeoutExpired:  # it closed its answers, or broke the protocol, and goes on
            self._kill()
            status = self._process.wait()
        if status > _BY_SIGNAL and "namespaces" in self._survey.standing:
            status = _BY_SIGNAL - status  # bubblewrap tells of the signal that its process died of as a shell does
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        return EngineDied(f"the engine process ended by itself ({how})", hint="the worker's log says more")

    def _listen(self, read_end: int) -> None:
        try:
            for line in self._lines(read_end):
                message = json.loads(line)
                if not isinstance(message, dict) or not isinstance(message.get("type"), str):
                    break
                self._inbox.put(message)
        except Exception as error:  # whatever it wrote (cut off by its death, nested too deeply): nobody waits for more
            log.warning("the engine process broke the protocol: %s", type(error).__name__)
        finally:
            os.close(read_end)
            self._inbox.put(None)

    def _lines(self, read_end: int) -> Iterator[bytes]:
        """Until the end, or a line that is longer than what was asked for can be."""
        begun: list[bytes] = []
        length = 0
        while block := os.read(read_end, _BLOCK):
            *ends, rest = block.split(b"\n")
            for end in ends:
                yield b"".join((*begun, end))
                begun, length = [], 0
            begun.append(rest)
            length += len(rest)
            if length > self._longest_line:
                raise ValueError("a line is too long")
