"""How many vectors of a Krylov basis there is memory for."""

from __future__ import annotations

import contextlib
import os
import resource
from functools import cache
from pathlib import Path

import torch

BASIS_BYTES = 2**32
"""A basis in float64 may take so much wherever it is."""

_SHARE = 0.25
"""Of the device's memory, where that is more: gradients, graphs and activations need the rest."""

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def most_bytes(device: torch.device) -> int:
    """What a basis on a device may take.

    Example:
        >>> most_bytes(torch.device("cpu")) >= BASIS_BYTES
        True
    """
    return max(BASIS_BYTES, int(_SHARE * _memory_bytes(device)))


def most_vectors(dimension: int, device: torch.device) -> int:
    """Vectors ``(dimension,)`` in float64 that a basis may have; at least one.

    Example:
        >>> most_vectors(BASIS_BYTES, torch.device("meta"))
        1
    """
    return max(1, most_bytes(device) // (8 * dimension))


@cache
def _memory_bytes(device: torch.device) -> int:
    """Of the device; of the machine's, what this process may have of it. Asked once: a process asks at every step."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type != "cpu":
        return 0
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits += [soft for soft, _ in map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_DATA)) if soft >= 0]
    with contextlib.suppress(OSError, ValueError):  # none, out of sight behind a wall, or "max"
        limits.append(int(_CGROUP.read_text()))
    return min(limits)
