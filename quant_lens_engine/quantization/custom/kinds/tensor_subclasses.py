"""Tensor subclasses, as torchao's ``quantize_`` puts them in the place of weights.

Most keep codes in ``qdata`` and scales in ``scale``. What is stored for activations (static ranges, a factor of
SmoothQuant or AWQ) is no part of the weight's bits, but such a factor is part of the weight's value: the layer computes
W·diag(f)·x.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from quant_lens_engine.quantization.custom.reading import TENSOR_READERS, StoredTensor, Unmapped, unpacked

_UNPACKED_ELEMENTS = {"fp6_e2m3": 6, "fp6_e3m2": 6}


class TensorSubclasses:
    """Whatever can be taken apart into plain tensors and gives its value back."""

    def reads(self, tensor: Tensor) -> bool:
        """Whether it is a wrapper of plain tensors."""
        return hasattr(tensor, "__tensor_flatten__")

    def read(self, tensor: Tensor) -> StoredTensor:
        """Its dequantized value, as the layer uses it."""
        try:
            value: Tensor = tensor.dequantize()
        except Exception as error:
            raise Unmapped(f"{type(tensor).__name__} gives no float values back: {error}") from error
        factor = getattr(tensor, "act_pre_scale", None)
        bits = code_bits(tensor)
        return StoredTensor(
            value if factor is None else value * factor.to(value),
            _weight_bits(tensor, bits),
            quantized=True,
            note=unpacked(bits) if _is_unpacked(tensor, bits) else None,
        )


def code_bits(tensor: Tensor) -> int:
    """Bits of one code: what the tensor declares, or what its codes take in memory."""
    declared = str(getattr(tensor, "target_dtype", "")).removeprefix("torch.int")
    if declared.isdigit():
        return int(declared)
    element = str(getattr(tensor, "elem_dtype", ""))
    return _UNPACKED_ELEMENTS.get(element) or round(8 * _codes(tensor).nbytes / max(1, tensor.numel()))


def _codes(tensor: Tensor) -> Tensor:
    codes = getattr(tensor, "qdata", tensor)
    return codes if isinstance(codes, Tensor) else tensor


def _is_unpacked(tensor: Tensor, bits: int) -> bool:
    return bits < 8 and 8 * _codes(tensor).nbytes > bits * tensor.numel()


def _weight_bits(tensor: Tensor, code: int) -> float:
    scale = getattr(tensor, "scale", None)
    if not hasattr(tensor, "qdata") or not isinstance(scale, Tensor):
        return sum(8 * part.nbytes for part in _parts(tensor))
    bits: float = code * tensor.numel()
    block = getattr(tensor, "block_size", None)
    if isinstance(block, int):  # MX and NVFP4: where scales are laid out for a kernel they are padded
        bits += tensor.numel() // block * 8 * scale.element_size()
    else:
        bits += 8 * scale.nbytes
    zero_point, whole = (getattr(tensor, name, None) for name in ("zero_point", "per_tensor_scale"))
    if zero_point is not None:
        bits += zero_point.numel() * (8 * zero_point.element_size() if zero_point.is_floating_point() else code)
    return bits if whole is None else bits + 8 * whole.nbytes


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """The plain tensors that it is made of, those for activations left out."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        part = getattr(tensor, name)
        if isinstance(part, Tensor) and not name.startswith("act_"):
            yield from _parts(part)


TENSOR_READERS.add("tensor-subclass", TensorSubclasses())
