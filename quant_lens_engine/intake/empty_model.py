"""A network as it is built, for its names and shapes alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def built_empty(make: Callable[[], nn.Module]) -> nn.Module:
    """What ``make`` builds, without memory for a weight; with it where numbers are read off tensors on the way.

    The builders of torchvision's RegNets are such. The random numbers of the caller stay where they were.

    Raises:
        Exception: whatever ``make`` raises.

    Example:
        >>> built_empty(lambda: nn.Linear(10**6, 10**6)).weight.device
        device(type='meta')
    """
    try:
        with torch.device("meta"):
            return make()
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error):
            raise
    with torch.random.fork_rng(devices=[]):
        return make()
