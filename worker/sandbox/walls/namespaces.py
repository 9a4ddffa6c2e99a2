"""Namespaces by bubblewrap: a root of its own with little in it, no network, no other process to be seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from worker.sandbox.plan import Plan
from worker.sandbox.wall import Wall, add_wall

_PROGRAM = "bwrap"
_OWN = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")


@add_wall
class NamespacesWall(Wall):
    """What is not bound into the process' root does not exist for it. Needs root, or leave to make user namespaces."""

    name = "namespaces"
    order = 20
    stops = "every file but its own, the network, other processes"
    remedy = "install Debian's bubblewrap; in a container, allow user namespaces"

    def why_not(self) -> str | None:
        """Whether the program is there; what the kernel allows is seen by trying."""
        return super().why_not() or (None if shutil.which(_PROGRAM) else "bubblewrap is not installed")

    def around(self, command: Sequence[str], plan: Plan) -> Sequence[str]:
        """The command within ``bwrap``."""
        if "user" in plan.walls:  # the process changes to that user by itself, which a user namespace would forbid
            rights = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
            namespaces: Sequence[str] = (*_OWN, *rights)
        else:
            namespaces = ("--unshare-all", "--cap-drop", "ALL")
        own = (plan.work, plan.checkpoints)
        binds: list[str] = []
        for parent in sorted({parent for path in (*map(Path, plan.reads), *own) for parent in path.parents}):
            binds += ["--perms", "0755", "--dir", str(parent)]  # by itself bubblewrap makes them for root alone
        for path in sorted(plan.reads):
            binds += ["--ro-bind-try", path, path]
        binds += ["--proc", "/proc", "--dev", "/dev"]
        for device in plan.devices:
            binds += ["--dev-bind-try", device, device]
        binds += ["--ro-bind", str(plan.inputs), str(plan.inputs)]
        for folder in map(str, own):
            binds += ["--bind", folder, folder]
        program = shutil.which(_PROGRAM) or _PROGRAM
        return program, *namespaces, "--die-with-parent", "--new-session", *binds, "--chdir", str(plan.work), *command

    def gap(self, plan: Plan) -> str | None:
        """Nothing of the worker's folders is there, nor a network beyond loopback, nor any process but bubblewrap's."""
        if plan.other.exists():
            return "another job is there"
        interfaces = [line.split(":")[0].strip() for line in Path("/proc/self/net/dev").read_text().splitlines()[2:]]
        if any(name != "lo" for name in interfaces):
            return "the network is there"
        return None if os.getppid() == 1 else "processes of the machine are there"
