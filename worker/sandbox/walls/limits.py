"""Resource limits: memory, processor time, file size, open files, no core dump."""

from __future__ import annotations

import resource
import sys

import psutil

from worker.sandbox.plan import Plan
from worker.sandbox.wall import Wall, add_wall


@add_wall
class LimitsWall(Wall):
    """``setrlimit``. The worker watches resident memory and the clock besides."""

    name = "limits"
    order = 10
    stops = "more memory, processor time or disk than allowed"
    remedy = "none is known: every POSIX system has them"

    def why_not(self) -> str | None:
        """Every POSIX system has it."""
        return None

    def at_start(self, plan: Plan) -> None:
        """All but memory, which the imports take a share of that nobody knows."""
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, plan.limits.file_bytes)
        _limit(resource.RLIMIT_NOFILE, plan.limits.open_files)
        _limit(resource.RLIMIT_CPU, plan.limits.cpu_s)

    def after_imports(self, plan: Plan) -> None:
        """Limit what may still be allocated. CUDA's driver maps far more than it uses: there the worker watches the
        resident memory alone."""
        if sys.platform == "linux" and not plan.maps_device_memory:
            _limit(resource.RLIMIT_AS, psutil.Process().memory_info().vms + plan.limits.memory_bytes)

    def gap(self, plan: Plan) -> str | None:
        """Limits can be read."""
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] > plan.limits.open_files:
            return "the number of open files has no limit"
        if sys.platform == "linux" and not plan.maps_device_memory and resource.getrlimit(resource.RLIMIT_AS)[1] < 0:
            return "memory has no limit"
        return None


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (allowed, allowed))
