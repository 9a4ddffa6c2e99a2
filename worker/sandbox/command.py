"""The command of a sandboxed process: its program, its environment, its plan."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.sandbox.limits import Limits, machine_memory_bytes
from worker.sandbox.plan import Plan
from worker.sandbox.wall import walls_of

if TYPE_CHECKING:  # what starts within the walls need not load it
    from worker.settings import Settings

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_KEPT_FAMILIES = ("OPENBLAS_", "OMP_", "MKL_", "ATEN_", "DNNL_", "ONEDNN_", "CUDA_", "NVIDIA_", "CUBLAS_")
"""They choose devices, kernels and threads, and so the digits: a worker must compute as the command line does."""

_ROOT = Path(__file__).resolve().parents[2]
ENGINE = _ROOT / "quant_lens_engine"
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/sys", "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
_DEVICES = ("nvidia*", "nvidia-caps/*", "kfd", "dri/*", "dxg")
_INSIDE = "worker.sandbox.inside"
_SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True)
class Command:
    """How a sandboxed process is started."""

    argv: tuple[str, ...]
    env: dict[str, str]
    plan: Plan


def command_for(
    folder: Path, settings: Settings, walls: tuple[str, ...], answers_fd: int, *, module: str,
    reads: tuple[Path, ...] = (), limits: Limits | None = None,
) -> Command:  # fmt: skip
    """The command of a process that runs ``module`` within ``walls``.

    Args:
        folder: a :class:`~worker.sandbox.folder.JobFolder`.
        settings: for its limits and the plug-ins that it may read.
        walls: names of walls that stand on this machine.
        answers_fd: the descriptor that it answers on.
        module: what it runs (see ``worker/sandbox/inside.py``).
        reads: what else it may read.
        limits: what it may take; without them, what the settings say.
    """
    plan = Plan(
        walls=walls,
        folder=str(folder),
        limits=limits or _limits(settings),
        reads=tuple(dict.fromkeys(map(str, (*_readable(settings), *reads)))),
        devices=tuple(str(path) for pattern in _DEVICES for path in sorted(Path("/dev").glob(pattern))),
        answers_fd=answers_fd,
    )
    argv: tuple[str, ...] = (sys.executable, "-m", _INSIDE, module, plan.as_argument())
    for wall in reversed(walls_of(plan)):
        argv = tuple(wall.around(argv, plan))
    return Command(argv, _environment(plan), plan)


def _limits(settings: Settings) -> Limits:
    return Limits(
        memory_bytes=settings.memory_limit_bytes or int(machine_memory_bytes() * _SHARE_OF_MEMORY),
        cpu_s=int(settings.run_time_limit_s * (os.cpu_count() or 1)) + 60,
    )


def _environment(plan: Plan) -> dict[str, str]:
    """No secret, no address of Redis; the folders of the process, and what the digits depend on."""
    env = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that spin while they wait cost a factor of 30 on shared cores
    env |= {name: value for name, value in os.environ.items() if _is_kept(name)}
    return env | {
        "HOME": str(plan.work),
        "TMPDIR": str(plan.work),
        "XDG_CACHE_HOME": str(plan.work),
        "PYTHONPATH": str(_ROOT),
        "PYTHONSAFEPATH": "1",  # nothing is imported from the folder that it works in
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
        "JOBLIB_MULTIPROCESSING": "0",  # scikit-learn's; it would try semaphores and warn that it may not
    }


def _is_kept(variable: str) -> bool:
    return variable in _KEPT_VARIABLES or variable.startswith(_KEPT_FAMILIES)


def _readable(settings: Settings) -> Iterator[Path]:
    """Python, its packages, our code, the plug-ins: never a folder that the data are in.

    Of our own folder only the two packages that an engine process runs: in a checkout ``data/`` lies beside them.
    """
    data = settings.data_dir.resolve()
    python = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *site.getsitepackages())
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    for name in (*_SYSTEM, *python, *filter(None, libraries), *filter(None, sys.path)):
        path = Path(name)
        if path.exists() and not data.is_relative_to(path.resolve()) and path.resolve() not in {_ROOT, Path.cwd()}:
            yield path
    yield ENGINE
    yield _ROOT / "worker"
    if settings.plugins is not None:
        yield settings.plugins.absolute()
