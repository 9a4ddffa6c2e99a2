"""Torch's own layers for the calls of a graph, made in the shapes of their weights; values come later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_CONVOLUTIONS: dict[tuple[int, bool], Any] = {
    (1, False): nn.Conv1d, (2, False): nn.Conv2d, (3, False): nn.Conv3d,
    (1, True): nn.ConvTranspose1d, (2, True): nn.ConvTranspose2d, (3, True): nn.ConvTranspose3d,
}  # fmt: skip
_BATCH_NORMS: dict[int, type[nn.Module]] = {
    2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d
}  # fmt: skip


class ColumnsLinear(nn.Module):
    """A linear layer whose weight is (in, out), as Hugging Face's ``Conv1D``: x W + b over the last axis.

    Args:
        inputs: length of the last axis.
        outputs: of the answer's.

    Example:
        >>> ColumnsLinear(4, 3)(torch.zeros(2, 5, 4)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The answer, ``(…, outputs)``."""
        flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return flat.reshape(*x.shape[:-1], flat.shape[-1])


def convolution(
    shape: Sequence[int], *, bias: bool, stride: Any, padding: Any, dilation: Any, groups: int,
    transposed: bool = False, output_padding: Any = 0,
) -> nn.Module:  # fmt: skip
    """A convolution for a weight ``(out, in / groups, …)``; transposed: ``(in, out / groups, …)``.

    Example:
        >>> convolution((8, 1, 5, 5), bias=False, stride=1, padding=2, dilation=1, groups=1)
        Conv2d(1, 8, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2), bias=False)
    """
    kind = _CONVOLUTIONS[len(shape) - 2, transposed]
    first, second, kernel = shape[0], shape[1] * groups, tuple(shape[2:])
    options: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": bias,
    }
    if transposed:
        made: nn.Module = kind(first, second, kernel, output_padding=output_padding, **options)
    else:
        made = kind(second, first, kernel, **options)
    return made


def linear(shape: Sequence[int], *, bias: bool) -> nn.Module:
    """A linear layer for a weight ``(out, in)``."""
    return nn.Linear(shape[1], shape[0], bias=bias)


def columns_linear(shape: Sequence[int]) -> nn.Module:
    """A linear layer for a weight ``(in, out)``, with a bias."""
    return ColumnsLinear(*shape)


def batch_norm(features: int, rank: int, *, affine: bool, eps: float, momentum: float | None) -> nn.Module:
    """A batch normalisation for inputs of ``rank`` axes, with running statistics."""
    made: nn.Module = _BATCH_NORMS[rank](features, eps=eps, momentum=momentum, affine=affine)
    return made


def layer_norm(shape: Sequence[int], *, bias: bool, eps: float) -> nn.Module:
    """A layer normalisation over the last axes of ``shape``, with a scale."""
    return nn.LayerNorm(tuple(shape), eps=eps, bias=bias)


def rms_norm(shape: Sequence[int], *, eps: float | None) -> nn.Module:
    """A root-mean-square normalisation over the last axes of ``shape``, with a scale."""
    return nn.RMSNorm(tuple(shape), eps=eps)


def group_norm(channels: int, groups: int, *, eps: float) -> nn.Module:
    """A group normalisation with scale and shift."""
    return nn.GroupNorm(groups, channels, eps=eps)


def embedding(shape: Sequence[int]) -> nn.Module:
    """An embedding for a weight ``(rows, width)``."""
    return nn.Embedding(shape[0], shape[1])
