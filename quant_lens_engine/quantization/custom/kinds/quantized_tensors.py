"""Tensors of torch's own quantized dtypes (``qint8``, ``quint8``, ``quint4x2`` …)."""

from __future__ import annotations

import torch
from torch import Tensor

from quant_lens_engine.quantization.custom.reading import TENSOR_READERS, StoredTensor

_NARROW = {torch.quint4x2: 4, torch.quint2x4: 2}
"""Packed several to a byte."""


class QuantizedTensors:
    """Codes with their qparams."""

    def reads(self, tensor: Tensor) -> bool:
        """Whether torch calls it quantized."""
        return tensor.is_quantized

    def read(self, tensor: Tensor) -> StoredTensor:
        """A code an element; an fp32 scale a channel or tensor, and a zero point as wide as a code, or as a scale."""
        code = _NARROW.get(tensor.dtype, 8 * tensor.element_size())
        scheme = str(tensor.qscheme())
        blocks = tensor.q_per_channel_scales().numel() if "channel" in scheme else 1
        zero_point = 32 if "float_qparams" in scheme else code
        bits = tensor.numel() * code + blocks * (32 + zero_point)
        return StoredTensor(tensor.dequantize(), bits, quantized=True)


TENSOR_READERS.add("quantized-dtype", QuantizedTensors())
