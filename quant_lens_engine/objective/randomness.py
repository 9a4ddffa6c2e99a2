"""Random numbers by purpose: the same seed and purpose give the same draw, whatever was drawn before."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose, such as ``generator(seed, "probe", 3)``.

    Purposes are hashed, so probe 3 is the same whether 10 or 100 are drawn, and on every device.

    Example:
        >>> a, b = (torch.rand(2, generator=generator(0, "probe", 3)) for _ in range(2))
        >>> bool((a == b).all())
        True
    """
    text = "/".join(map(str, (seed, *purpose)))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return torch.Generator("cpu").manual_seed(number >> 1)


def normal(dimension: int, seed: int, *purpose: str | int) -> Tensor:
    """A standard normal vector ``(dimension,)`` in float64 on the CPU."""
    return torch.randn(dimension, generator=generator(seed, *purpose), dtype=torch.float64)


def rademacher(dimension: int, seed: int, *purpose: str | int) -> Tensor:
    """A vector ``(dimension,)`` of independent signs ±1, in float64 on the CPU."""
    signs = torch.randint(0, 2, (dimension,), generator=generator(seed, *purpose), dtype=torch.int8)
    return signs.to(torch.float64).mul_(2).sub_(1)
