"""The one door to an engine process: what it is started as, with which environment, folder and limits.

Whatever reads an upload goes through :func:`command_for`. Today: a fresh process for every job, an empty environment
(no secrets, no address of Redis), a folder of its own, resource limits. Walls of the operating system (namespaces,
Landlock, seccomp) belong here too, and nowhere else.
"""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from worker.settings import Settings

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_KEPT_FAMILIES = ("OPENBLAS_", "OMP_", "MKL_", "ATEN_", "DNNL_", "ONEDNN_", "CUDA_", "NVIDIA_", "CUBLAS_")
"""They choose devices, kernels and threads, and so the digits: a worker must compute as the command line does."""

_ROOT = Path(__file__).resolve().parents[1]
ENGINE = _ROOT / "quant_lens_engine"
WALLS = ("fresh process", "empty environment", "resource limits")
"""What stands between an upload and this machine, as the Server page says it."""
_OPEN_FILES = 1024
_FILE_BYTES = 2**30
_SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True)
class Limits:
    """What one engine process may take.

    Attributes:
        memory_bytes: address space beyond what the imports took, on the CPU; resident memory everywhere.
        cpu_s: processor seconds over all threads.
        file_bytes: size of any file it writes.
        open_files: descriptors.
    """

    memory_bytes: int
    cpu_s: int
    file_bytes: int = _FILE_BYTES
    open_files: int = _OPEN_FILES


@dataclass(frozen=True)
class Command:
    """How an engine process is started."""

    argv: tuple[str, ...]
    env: dict[str, str]
    limits: Limits


def command_for(folder: Path, settings: Settings, answers_fd: int) -> Command:
    """The command of an engine process that works in ``folder`` and answers on the descriptor ``answers_fd``."""
    limits = Limits(
        memory_bytes=settings.memory_limit_bytes or int(machine_memory_bytes() * _SHARE_OF_MEMORY),
        cpu_s=int(settings.run_time_limit_s * (os.cpu_count() or 1)) + 60,
    )
    env = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that spin while they wait cost a factor of 30 on shared cores
    env |= {name: value for name, value in os.environ.items() if _is_kept(name)}
    env |= {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "XDG_CACHE_HOME": str(folder),
        "PYTHONPATH": str(_ROOT),
        "PYTHONSAFEPATH": "1",  # nothing is imported from the folder that it works in
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
    }
    numbers = [f"{name}={value}" for name, value in asdict(limits).items()]
    argv = (sys.executable, "-m", "worker.engine_process", str(answers_fd), *numbers)
    return Command(argv, env, limits)


def parse_limits(arguments: list[str]) -> Limits:
    """The inverse of what :func:`command_for` writes on the command line."""
    return Limits(**{name: int(value) for name, _, value in (argument.partition("=") for argument in arguments)})


def apply_limits(limits: Limits) -> None:
    """Limit this process, before it reads anything from outside. Memory is for :func:`limit_memory`, after imports."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    _limit(resource.RLIMIT_CPU, limits.cpu_s)


def limit_memory(limits: Limits) -> None:
    """Limit what this process may still allocate. With CUDA its driver maps far more than it uses: then the parent
    watches the resident memory alone."""
    if sys.platform == "linux" and not Path("/dev/nvidiactl").exists():
        _limit(resource.RLIMIT_AS, psutil.Process().memory_info().vms + limits.memory_bytes)


def machine_memory_bytes() -> int:
    """Memory of this machine, or of the control group (container) that we are in."""
    total = int(psutil.virtual_memory().total)
    try:
        group = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(group)) if group.isdigit() else total


def _is_kept(variable: str) -> bool:
    return variable in _KEPT_VARIABLES or variable.startswith(_KEPT_FAMILIES)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (allowed, allowed))
