"""What one engine process may take, and what this machine has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

_OPEN_FILES = 1024
_FILE_BYTES = 2**30
_FOLDER_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Limits:
    """What one engine process may take.

    Attributes:
        memory_bytes: address space beyond what the imports took, on the CPU; resident memory everywhere.
        cpu_s: processor seconds over all threads.
        file_bytes: size of any file it writes.
        folder_bytes: all that it writes into its folder.
        open_files: descriptors.
    """

    memory_bytes: int
    cpu_s: int
    file_bytes: int = _FILE_BYTES
    folder_bytes: int = _FOLDER_BYTES
    open_files: int = _OPEN_FILES


def machine_memory_bytes() -> int:
    """Memory of this machine, or of the control group (container) that we are in."""
    total = int(psutil.virtual_memory().total)
    try:
        group = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(group)) if group.isdigit() else total
