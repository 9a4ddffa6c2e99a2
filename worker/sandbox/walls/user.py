"""A user of its own: an engine process of a worker that runs as root is nobody."""

from __future__ import annotations

import ctypes
import os
import signal

from worker.sandbox.plan import Plan
from worker.sandbox.wall import Wall, add_wall

NOBODY = 65534
_PR_SET_PDEATHSIG = 1


@add_wall
class UserWall(Wall):
    """Root's files and rights are out of reach. It is possible where nobody can walk to the folders that are needed."""

    name = "user"
    order = 30
    stops = "what only root may do or read"
    remedy = "run the worker as a user that owns nothing else; as root, in folders that others may walk through"

    def why_not(self) -> str | None:
        """Only root can become another user."""
        if problem := super().why_not():
            return problem
        return None if os.geteuid() == 0 else "the worker is not root, and its engine processes have its own user"

    def at_start(self, plan: Plan) -> None:
        """Change user and group, and give up every right of root with them."""
        del plan
        parent = os.getppid()
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        # The change took back what worker/tether.py had asked for: to die with the worker.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit("the worker is gone")

    def gap(self, plan: Plan) -> str | None:
        """Whether the way back is closed."""
        del plan
        try:
            os.setuid(0)
        except PermissionError:
            return None
        return "it can be root"
