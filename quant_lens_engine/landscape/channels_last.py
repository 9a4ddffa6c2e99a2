"""Weights of convolutions laid out channels last: the outputs follow, and the processor's kernels want it so."""

from __future__ import annotations

from torch import nn

from quant_lens_engine.objective import Objective

WIDE = 8
"""Channels of input and output from which it pays, on the CPU: a vector of float32. Measured with one thread on 21
networks: together with folding 0.32 to 0.96 of the plain time where such layers hold most weights of the convolutions,
but 0.94 to 1.04 for a LeNet; of four channels folding alone was quicker (``decisions.md``)."""


def channels_last_pays(network: Objective) -> bool:
    """Whether most weights of the 2-D convolutions belong to wide ones, on the CPU; a rule of shape, no stopwatch.

    Example:
        >>> import torch
        >>> data = [(torch.zeros(1, 8, 4, 4), torch.zeros(1))]
        >>> channels_last_pays(Objective(nn.Conv2d(8, 16, 3), data, task="regression"))
        True
    """
    convolutions = [module for module in network.model.modules() if isinstance(module, nn.Conv2d)]
    if network.device.type != "cpu" or not convolutions:
        return False
    wide = sum(conv.weight.numel() for conv in convolutions if min(conv.in_channels, conv.out_channels) >= WIDE)
    return 2 * wide >= sum(conv.weight.numel() for conv in convolutions)
