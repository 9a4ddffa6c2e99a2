"""Modules of ``torch.ao.nn.quantized`` and its kin, which keep packed weights: dynamic, static, fused, reference.

Weights come from the methods of each: ``weight()`` of linear layers, convolutions and embeddings,
``get_quantized_weight()`` of reference modules, and ``get_weight()`` of recurrent ones, which gives several by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from quant_lens_engine.quantization.custom.reading import MODULE_READERS, StoredTensor, plain_tensors, read_tensor

_PACKAGES = (
    "torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized", "torch.nn.quantized",
)  # fmt: skip
_METHODS = {"weight": "weight", "bias": "bias", "get_quantized_weight": "weight", "get_weight": None, "get_bias": None}
"""Methods, and the name of what each gives; None where it gives several, by name."""


class PackedModules:
    """One of torch's quantized modules."""

    whole: ClassVar[bool] = False

    def reads(self, module: nn.Module) -> bool:
        """Whether it comes from one of those packages."""
        return type(module).__module__.startswith(_PACKAGES)

    def tensors(self, module: nn.Module) -> Iterator[tuple[str, StoredTensor]]:
        """Plain ones, then packed ones in the place of those."""
        known = {key: _known(stored) for key, stored in plain_tensors(module)}
        for method, name in _METHODS.items():
            value = _given_by(module, method)
            if isinstance(value, Mapping):
                known |= {key: _read_packed(tensor) for key, tensor in value.items()}
            elif isinstance(value, Tensor) and name is not None:
                known[name] = _read_packed(value)
        yield from known.items()


def _given_by(module: nn.Module, method: str) -> object:
    """What a method gives; a quantized tensor can stand in its place (PReLU)."""
    attribute = getattr(module, method, None)
    if isinstance(attribute, Tensor):
        return attribute if attribute.is_quantized else None
    with torch.no_grad():
        return attribute() if callable(attribute) else None


def _known(stored: StoredTensor) -> StoredTensor:
    """How a vector is used is known (scales, biases); a float matrix is read by a method, or not at all."""
    return stored if stored.value.dim() >= 2 else replace(stored, owner=None)


def _read_packed(tensor: Tensor) -> StoredTensor:
    if not tensor.is_quantized and tensor.dim() >= 2:  # torch's float16 dynamic layers hand their weight out in float32
        return StoredTensor(tensor.detach(), 16 * tensor.numel(), quantized=True)
    return read_tensor(tensor)


MODULE_READERS.add("packed", PackedModules())
