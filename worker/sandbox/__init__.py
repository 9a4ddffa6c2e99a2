"""The one door to an engine process: what it is started as, with which environment, folder, limits and walls.

Whatever reads an upload starts here. Always: a fresh process for every job, an empty environment (no secrets, no
address of Redis), a folder of its own, a wall clock and a watch on its memory. And as many walls of the operating
system as this machine has (``worker/sandbox/walls``, one file each), which a trial finds out: :func:`survey`.

Two of them, namespaces and another user, are raised around the process; Landlock at its very start, before a library
has started a thread; memory limit and seccomp after its imports and before its first request.
"""

from worker.sandbox.command import ENGINE, Command, command_for
from worker.sandbox.folder import JobFolder
from worker.sandbox.limits import Limits, machine_memory_bytes
from worker.sandbox.plan import Plan
from worker.sandbox.survey import SandboxError, Survey, survey
from worker.sandbox.tree import disk_bytes, remove_tree
from worker.sandbox.wall import WALLS, Wall

__all__ = [
    "ENGINE",
    "WALLS",
    "Command",
    "JobFolder",
    "Limits",
    "Plan",
    "SandboxError",
    "Survey",
    "Wall",
    "command_for",
    "disk_bytes",
    "machine_memory_bytes",
    "remove_tree",
    "survey",
]
