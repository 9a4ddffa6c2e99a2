"""Landlock: files outside the process' own folders cannot be opened, whoever it runs as."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from worker.sandbox.plan import Plan
from worker.sandbox.wall import Wall, add_wall

_KERNEL_FACTS = ("meminfo", "cpuinfo", "stat", "modules", "devices", "driver", "sys/vm", "sys/kernel/osrelease")
_OLDEST = 3
"""The version that Linux 6.2 brought: before it a file that may not be written may be truncated."""

_DEVICES = ("null", "zero", "full", "random", "urandom")


@add_wall
class LandlockWall(Wall):
    """Rules for paths, which bind the thread that asks for them and those that it starts.

    So they come before any library is imported: numpy's starts threads, and one that had escaped would be a way out.
    """

    name = "landlock"
    order = 40
    stops = "reading or writing any file but its own"
    remedy = "Linux 6.2 or later with landlock among its LSMs; make install"

    def why_not(self) -> str | None:
        """Ask the kernel for its version of Landlock."""
        if problem := super().why_not():
            return problem
        try:
            from landlock import plumbing
        except ImportError:
            return "the Python package landlock is not installed"
        try:
            version = plumbing.landlock_abi_version()
        except OSError:
            return "this kernel has no Landlock, or it is switched off"
        if version < _OLDEST:
            return f"this kernel's Landlock (version {version}) does not guard files from being truncated"
        return None

    def at_start(self, plan: Plan) -> None:
        """Forbid every path that is not named here. Nothing may be executed."""
        from landlock import FSAccess, Ruleset

        handled = FSAccess.all()
        ctypes.set_errno(0)  # the package takes what another call has left there for its own failure
        rules = Ruleset(handled)
        read = FSAccess.READ_FILE | FSAccess.READ_DIR
        write = read | FSAccess.WRITE_FILE | FSAccess.MAKE_REG | FSAccess.MAKE_DIR
        write |= FSAccess.REMOVE_FILE | FSAccess.REMOVE_DIR
        for name in ("REFER", "TRUNCATE"):  # of later versions
            write |= FSAccess[name] & handled
        device = read | FSAccess.WRITE_FILE | (FSAccess.IOCTL_DEV & handled)

        def allow(paths: Iterable[str | Path], access: FSAccess) -> None:
            for path in map(Path, paths):
                if path.exists():  # directory rights on a file are refused
                    rules.allow(path, rules=access if path.is_dir() else access & FSAccess.all_file())

        allow((*plan.reads, plan.inputs), read)
        allow((plan.work, plan.checkpoints), write)
        allow((Path("/proc") / name for name in (str(os.getpid()), *_KERNEL_FACTS)), read)
        allow((Path("/dev") / name for name in _DEVICES), read | FSAccess.WRITE_FILE)
        allow(plan.devices, device)
        rules.apply()

    def gap(self, plan: Plan) -> str | None:
        """Neither another job nor the root may be read, whether the root is the machine's or bubblewrap's. Nor may
        another job be truncated."""
        for act, what in ((plan.other.read_bytes, "another job"), (lambda: os.listdir("/"), "the root folder")):
            try:
                act()
            except OSError:
                continue
            return f"{what} can be read"
        try:
            os.truncate(plan.other, 0)
        except OSError:
            return None
        return "another job can be truncated"
