"""Which walls stand on this machine: found out by a real process that tries them, once for each worker process."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from quant_lens_engine.errors import QuantLensError
from worker import tether
from worker.sandbox.command import command_for
from worker.sandbox.folder import JobFolder
from worker.sandbox.wall import all_walls

if TYPE_CHECKING:
    from worker.settings import Settings

_ALWAYS = ("fresh process", "empty environment")
_TRIAL = "worker.sandbox.trial"
_TRIAL_S = 60.0
_one_at_a_time = threading.Lock()


class SandboxError(QuantLensError):
    """This worker has fewer walls than its administrator demands, and so opens no upload."""

    default_code = "sandbox_below_minimum"


@dataclass(frozen=True)
class Survey:
    """What a trial has shown.

    Attributes:
        standing: names of the walls that hold, outermost first.
        missing: why each of the others does not.
    """

    standing: tuple[str, ...]
    missing: Mapping[str, str]

    @property
    def facts(self) -> list[str]:
        """What stands between an upload and this machine, as the Server page says it."""
        return [*_ALWAYS, *self.standing]

    def lacking(self, minimum: tuple[str, ...]) -> dict[str, str]:
        """The demanded walls that do not stand, each with the reason."""
        return {name: self.missing[name] for name in minimum if name not in self.standing}

    def problem(self, minimum: tuple[str, ...]) -> str | None:
        """Why no upload is opened here, in a sentence; None where nothing is lacking."""
        reasons = self.shortfall(minimum)
        return f"uploads are refused, because {reasons}" if reasons else None

    def shortfall(self, minimum: tuple[str, ...]) -> str | None:
        """What is lacking of the minimum and why, as in *the sandbox lacks landlock (…)*; None where nothing is."""
        reasons = "; ".join(f"{name} ({why})" for name, why in self.lacking(minimum).items())
        return f"the sandbox lacks {reasons}" if reasons else None

    def check(self, minimum: tuple[str, ...]) -> None:
        """Let an upload pass, or not.

        Raises:
            SandboxError: a demanded wall does not stand.
        """
        if (shortfall := self.shortfall(minimum)) is not None:
            raise SandboxError(
                f"this worker opens no uploads: {shortfall}",
                hint="the server's administrator: `quant-lens doctor` says what is missing and how to get it",
                details={"lacking": sorted(self.lacking(minimum))},
            )


def survey(settings: Settings) -> Survey:
    """Try every wall in a real process, all together; where that fails, one more at a time.

    A wall that cannot be raised beside those before it, or that lets through what it forbids, does not stand. It is
    done once for each process; who asks meanwhile waits.
    """
    with _one_at_a_time:
        return _surveyed(settings)


@cache
def _surveyed(settings: Settings) -> Survey:
    missing = {wall.name: reason for wall in all_walls() if (reason := wall.why_not()) is not None}
    candidates = tuple(wall.name for wall in all_walls() if wall.name not in missing)
    gaps = _try(settings, candidates)
    if isinstance(gaps, Mapping) and not any(gaps.values()):
        return Survey(candidates, missing)
    standing: tuple[str, ...] = ()
    for name in candidates:
        gaps = _try(settings, (*standing, name))
        problem = gaps if isinstance(gaps, str) else gaps[name]
        if problem is None:
            standing += (name,)
        else:
            missing[name] = problem
    return Survey(standing, missing)


def _try(settings: Settings, walls: tuple[str, ...]) -> Mapping[str, str | None] | str:
    """What a process within ``walls`` saw of them; in a word why not, where it did not come to that."""
    try:
        folder = JobFolder(settings.jobs_dir.absolute(), is_nobodys="user" in walls)
    except PermissionError as error:  # root in a container that has taken root's rights away
        return f"its folder cannot be handed over: {error.strerror}"
    other = Path(f"{folder.path}.other")
    try:
        other.write_bytes(b"somebody else's")
        read_me = folder.path / "inputs" / "trial"
        read_me.write_bytes(b"read me")
        read_me.chmod(0o444)
        return _run_trial(folder, settings, walls)
    finally:
        other.unlink(missing_ok=True)
        folder.remove()


def _run_trial(folder: JobFolder, settings: Settings, walls: tuple[str, ...]) -> Mapping[str, str | None] | str:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as answers:
        try:
            command = command_for(folder.path, settings, walls, write_end, module=_TRIAL)
            process = tether.start(
                command.argv, env=command.env, cwd=command.plan.work, stdin=subprocess.DEVNULL, pass_fds=(write_end,),
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        finally:
            os.close(write_end)
        try:
            _, errors = process.communicate(timeout=_TRIAL_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return "a process within it did not answer"
        if process.returncode == 0 and (answer := answers.read()):
            gaps: Mapping[str, str | None] = json.loads(answer)
            return gaps
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"a process within it ended with {process.returncode}"
