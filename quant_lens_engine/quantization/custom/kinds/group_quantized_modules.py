"""What torchao's older QAT quantizers convert to: 4-bit codes in an int8 buffer, a scale and a zero point a group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn

from quant_lens_engine.quantization.custom.reading import MODULE_READERS, StoredTensor, plain_tensors, unpacked

_NAMES = {"Int8DynActInt4WeightLinear": ("scales", "zeros"), "Int4WeightOnlyEmbedding": ("scale", "zero_point")}
_BITS = 4


class GroupQuantizedModules:
    """``Int8DynActInt4WeightLinear`` and ``Int4WeightOnlyEmbedding``."""

    whole: ClassVar[bool] = True

    def reads(self, module: nn.Module) -> bool:
        """Whether it is one of the two."""
        return type(module).__name__ in _NAMES and type(module).__module__.startswith("torchao.")

    def tensors(self, module: nn.Module) -> Iterator[tuple[str, StoredTensor]]:
        """(code − zero point) · scale, and the bias."""
        own = dict(plain_tensors(module))
        codes, scale, zero = (own[name].value for name in ("weight", *_NAMES[type(module).__name__]))
        value = (codes.to(scale.dtype) - _spread(zero, codes)) * _spread(scale, codes)
        bits = _BITS * codes.numel() + scale.numel() * (8 * scale.element_size() + _BITS)
        yield "weight", StoredTensor(value, bits, quantized=True, note=unpacked(_BITS))
        if "bias" in own:
            yield "bias", StoredTensor(own["bias"].value, own["bias"].bits, quantized=False)


def _spread(qparams: Tensor, codes: Tensor) -> Tensor:
    """Each group's, for every one of its codes."""
    return qparams.repeat_interleave(codes.shape[1] // qparams.shape[1], dim=1)


MODULE_READERS.add("group-quantized", GroupQuantizedModules())
