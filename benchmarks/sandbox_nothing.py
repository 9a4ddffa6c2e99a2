"""The program of ``benchmarks/sandbox_start.py`` that imports nothing: what is left is the walls."""

from __future__ import annotations

import os
import time

from worker.sandbox.plan import Plan


def prepare(plan: Plan) -> None:
    """Nothing."""
    del plan


def main(plan: Plan) -> None:
    """Answer that it is ready, and wait to be ended."""
    os.write(plan.answers_fd, b"ready")
    time.sleep(600)
