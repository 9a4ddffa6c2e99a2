"""A process tied to the one that started it: when the starter dies, however it dies, the kernel kills this one.

Run as a file: ``python -I -S tether.py PARENT_PID COMMAND…`` asks for the parent's death signal and becomes COMMAND.
``PR_SET_PDEATHSIG`` follows the *thread* that started the process, so :func:`start` does it from one that never ends.
(Only Linux has it; elsewhere an engine process still ends when its input does.)
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


@cache
def _starter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")


def start(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """Start ``argv`` tied to this process, in a session of its own (Ctrl-C in the terminal does not reach it).

    Args:
        argv: the command.
        env: its whole environment.
        cwd: its working folder.
        options: further arguments of ``subprocess.Popen``.
    """
    tied = [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv]

    def spawn() -> subprocess.Popen[bytes]:
        return subprocess.Popen(tied, env=env, cwd=cwd, start_new_session=True, **options)

    return _starter().submit(spawn).result()


def _become(parent: int, argv: Sequence[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # it died before we asked
    os.execvp(argv[0], list(argv))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
