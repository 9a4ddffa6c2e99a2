"""What a wall is: one means of the operating system that keeps an engine process to itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import ClassVar

from quant_lens_engine.registry import Registry, load_rooms
from worker.sandbox.plan import Plan

WALLS = Registry["Wall"]("wall of the sandbox")
"""Every wall that there is; each file of ``worker/sandbox/walls`` adds one."""


class Wall:
    """One wall. It acts where it must: around the command, at the very start of the process, or after its imports.

    Attributes:
        name: as settings, Server page and doctor say it.
        order: the place among the others, at each of the three.
        stops: what it keeps a hostile file from, for people.
        remedy: what an administrator can do where it is missing.
    """

    name: ClassVar[str]
    order: ClassVar[int]
    stops: ClassVar[str]
    remedy: ClassVar[str]

    def why_not(self) -> str | None:
        """Why this machine cannot have it, as far as one sees without trying; None when it may be tried."""
        return None if sys.platform == "linux" else "only Linux has it"

    def around(self, command: Sequence[str], plan: Plan) -> Sequence[str]:
        """The command that starts ``command`` within this wall (in the worker)."""
        del plan
        return command

    def at_start(self, plan: Plan) -> None:
        """Raise it before anything is imported, while the process has one thread."""

    def after_imports(self, plan: Plan) -> None:
        """Raise it before the first request; threads of libraries may run by now."""

    def gap(self, plan: Plan) -> str | None:
        """Try, from inside, what only this wall forbids: what went through, or None."""
        raise NotImplementedError


@cache
def all_walls() -> tuple[Wall, ...]:
    """Every wall, outermost first."""
    from worker.sandbox import walls

    load_rooms(walls)
    return tuple(sorted(WALLS.values(), key=lambda wall: wall.order))


def walls_of(plan: Plan) -> tuple[Wall, ...]:
    """The walls that a plan has."""
    return tuple(wall for wall in all_walls() if wall.name in plan.walls)


def add_wall(kind: type[Wall]) -> type[Wall]:
    """Register a wall (a class decorator)."""
    WALLS.add(kind.name, kind())
    return kind
