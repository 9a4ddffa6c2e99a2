"""What a sandboxed process starts as: ``python -m worker.sandbox.inside MODULE PLAN``.

It raises the walls around itself and only then hands over to the module, which has two functions::

    prepare(plan)   import what is needed (may start threads); nothing from outside is read yet
    main(plan)      the work, within all walls

A wall that was found standing at the worker's start and does not stand now ends the process: it fails closed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from worker.sandbox.plan import Plan
from worker.sandbox.wall import walls_of


def run(module: str, plan: Plan) -> None:
    """Raise the walls of ``plan`` and run ``module`` within them.

    Args:
        module: its name, or a path that ends with ``.py`` (and lies in a folder that the plan lets it read).
        plan: the walls.
    """
    walls = walls_of(plan)
    _refuse_threads()
    for wall in walls:
        wall.at_start(plan)
    program = _load(module)
    program.prepare(plan)
    for wall in walls:
        wall.after_imports(plan)
    program.main(plan)


def _refuse_threads() -> None:
    tasks = Path("/proc/self/task")
    if tasks.is_dir() and len(list(tasks.iterdir())) != 1:
        sys.exit("the walls must be raised before the first thread")  # Landlock would leave the others outside


def _load(module: str) -> ModuleType:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    spec = importlib.util.spec_from_file_location(Path(module).stem, module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


if __name__ == "__main__":
    os.dup2(2, 1)  # what a library prints goes to the log
    run(sys.argv[1], Plan.parse(sys.argv[2]))
