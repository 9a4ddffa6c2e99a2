"""A program of the tests within walls, started exactly as an engine process is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from worker import sandbox, tether
from worker.settings import Settings

INSIDE = Path(__file__).parent / "inside"


def run_within(
    walls: tuple[str, ...], program: str, settings: Settings, *, files: tuple[Path, ...] = (),
    limits: sandbox.Limits | None = None, timeout_s: float = 120,
):  # fmt: skip
    """What ``tests/security/inside/PROGRAM.py`` answers, and its exit code. ``files`` are brought in, in order."""
    job = sandbox.JobFolder(settings.jobs_dir / "tests", is_nobodys="user" in walls)
    read_end, write_end = os.pipe()
    try:
        for path in files:
            job.bring(str(path))
        command = sandbox.command_for(
            job.path, settings, walls, write_end, module=str(INSIDE / f"{program}.py"), reads=(INSIDE,), limits=limits
        )
        process = tether.start(
            command.argv, env=command.env, cwd=command.plan.work, pass_fds=(write_end,), stderr=subprocess.PIPE
        )
        os.close(write_end)
        try:
            _, errors = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        with os.fdopen(read_end, "rb", closefd=False) as answers:
            answer = answers.read()
        return (json.loads(answer) if answer else errors.decode()), process.returncode
    finally:
        os.close(read_end)
        job.remove()
