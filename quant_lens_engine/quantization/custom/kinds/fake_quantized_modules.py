"""Layers that torchao's QAT prepared: float weights that each pass rounds, by a quantizer of the layer's own.

The weight is what that quantizer makes of it. It is counted as it will be stored once it is converted: codes of B bits,
a scale and a zero point of B bits a group.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from quant_lens_engine.quantization.custom.reading import (
    MODULE_READERS,
    StoredTensor,
    plain_tensors,
    read_tensor,
)

_NOTE = "prepared for QAT: weights as their fake quantizers round them, counted as they are stored once converted"


class FakeQuantizedModules:
    """``FakeQuantizedLinear``, ``FakeQuantizedEmbedding`` and torchao's other layers of that kind."""

    whole: ClassVar[bool] = True

    def reads(self, module: nn.Module) -> bool:
        """Whether it is a layer of torchao with a fake quantizer of its own."""
        named = any(kind.__module__.startswith("torchao.") for kind in type(module).__mro__)
        return named and (hasattr(module, "weight_fake_quantizer") or hasattr(module, "weight_config"))

    def tensors(self, module: nn.Module) -> Iterator[tuple[str, StoredTensor]]:
        """Its weight as it is rounded, and everything else as it is."""
        for key, stored in plain_tensors(module):
            rounded = key == "weight" and not stored.quantized
            yield key, _rounded(module, stored) if rounded else replace(stored, owner=None)


def _rounded(module: nn.Module, stored: StoredTensor) -> StoredTensor:
    config = getattr(module, "weight_config", None)
    if config is not None:
        return _rounded_in_blocks(config, stored)
    quantizer = getattr(module, "weight_fake_quantizer", None)
    if quantizer is None or not quantizer.enabled:
        return replace(stored, owner=None)
    with torch.no_grad():  # a copy: a dynamic quantizer keeps the scales that it has seen last
        value: Tensor = copy.deepcopy(quantizer)(stored.value)
    return replace(stored, value=value, bits=_bits(quantizer.config, value), quantized=True, owner=None, note=_NOTE)


def _rounded_in_blocks(config: Any, stored: StoredTensor) -> StoredTensor:
    """By the tensor subclass that such a layer builds in each pass (MX, NVFP4)."""
    from torchao.prototype.mx_formats.mx_tensor import MXTensor
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

    weight = stored.value
    if hasattr(config, "scaling_mode"):
        tensor = MXTensor.to_mx(weight, config.dtype, block_size=config.block_size, scaling_mode=config.scaling_mode)
    else:
        scale = per_tensor_amax_to_scale(weight.abs().max()) if config.use_per_tensor_scale else None
        tensor = NVFP4Tensor.to_nvfp4(weight, per_tensor_scale=scale)
    read = read_tensor(tensor)
    return replace(read, source=stored.source, note=_NOTE)


def _bits(config: Any, weight: Tensor) -> float:
    """Codes, and a scale for each group, channel or tensor; a zero point where codes are integers."""
    kind = str(getattr(config, "dtype", "int4"))
    width = re.search(r"u?int(\d)", kind.lower())
    granularity = getattr(config, "granularity", None)
    group = getattr(config, "group_size", None) if granularity is None else getattr(granularity, "group_size", None)
    blocks = 1 if type(granularity).__name__ == "PerTensor" else weight.numel() // (group or weight.shape[-1])
    if width is None:  # float8
        return 8 * weight.numel() + 32 * blocks
    scale = 8 * (getattr(config, "scale_precision", None) or weight.dtype).itemsize
    bits = int(width[1])
    return bits * weight.numel() + blocks * (scale + bits)


MODULE_READERS.add("fake-quantized", FakeQuantizedModules())
