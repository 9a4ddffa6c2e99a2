"""What a custom model stores: each of its tensors in float, by the name that its float counterpart has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor, fx, nn

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.registry import Registry, load_rooms

NAMELESS = "?"
"""How the name of a tensor begins whose float counterpart is not said."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a custom model.

    Attributes:
        value: in float.
        bits: what it takes, with scales and zero points; codes of B bits count as B, however they are kept in memory.
        quantized: whether it is rounded.
        owner: the class of the module whose forward uses the value in a way that is known only where the float model
            has the same class; None where it is known in any case.
        note: what a reader should know of it, as a sentence.
        source: what is stored, where two names can stand for the same.
    """

    value: Tensor
    bits: float
    quantized: bool
    owner: type[nn.Module] | None = None
    note: str | None = None
    source: object = None


class Unmapped(Exception):  # noqa: N818  (a finding, caught in this package)
    """The custom model has no point among the float model's parameters, and why."""


class TensorReader(Protocol):
    """Reads one kind of tensor."""

    def reads(self, tensor: Tensor) -> bool:
        """Whether it is of this kind."""

    def read(self, tensor: Tensor) -> StoredTensor:
        """Its value and its size; :class:`Unmapped` where it gives no value back."""


class ModuleReader(Protocol):
    """Reads one kind of module.

    Attributes:
        whole: its submodules are read with it.
    """

    whole: ClassVar[bool]

    def reads(self, module: nn.Module) -> bool:
        """Whether it is of this kind. The library that it comes from need not be installed."""

    def tensors(self, module: nn.Module) -> Iterator[tuple[str, StoredTensor]]:
        """Its tensors by the names that the float module has for them; the module is not changed."""


TENSOR_READERS: Registry[TensorReader] = Registry("kind of quantized tensor", CheckpointError)
MODULE_READERS: Registry[ModuleReader] = Registry("kind of quantized module", CheckpointError)


def read_model(model: nn.Module) -> dict[str, StoredTensor]:
    """Every tensor of ``model``, by name; tied ones under each of their names.

    Raises:
        Unmapped: a module or a tensor that gives no value back.

    Example:
        >>> found = read_model(nn.Sequential(nn.Linear(4, 2).half()))
        >>> {name: (stored.bits, stored.quantized) for name, stored in found.items()}
        {'0.weight': (128, False), '0.bias': (32, False)}
    """
    found: dict[str, StoredTensor] = {}
    whole: list[str] = []
    passed_by: set[str] = set()
    for prefix, module in model.named_modules(remove_duplicate=False):
        if any(prefix.startswith(outer) for outer in whole):
            continue
        inner = f"{prefix}." if prefix else ""
        reader = next((reader for reader in MODULE_READERS.values() if reader.reads(module)), None)
        if reader is not None and reader.whole:
            whole.append(inner)
        if isinstance(module, nn.MultiheadAttention):  # it reads this layer's weight, and never calls the layer
            passed_by.add(f"{inner}out_proj")
        tensors: Iterator[tuple[str, StoredTensor]]
        if prefix in passed_by:
            tensors = ((key, replace(stored, owner=None)) for key, stored in plain_tensors(module))
        else:
            tensors = plain_tensors(module) if reader is None else reader.tensors(module)
        for key, stored in tensors:
            source = (id(module), key) if stored.source is None else stored.source
            found[f"{inner}{key}"] = replace(stored, source=source)
    return found


def plain_tensors(module: nn.Module) -> Iterator[tuple[str, StoredTensor]]:
    """The parameters and buffers of one module, each read as what it is."""
    # a graph computes with its own tensors, and with those of bare modules inside it, by name
    traced = type(module) is nn.Module or isinstance(module, fx.GraphModule)
    for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        yield key, replace(read_tensor(tensor), owner=None if traced else type(module), source=id(tensor))


def read_tensor(tensor: Tensor) -> StoredTensor:
    """A tensor of any kind: of a registered one, or a plain one.

    Example:
        >>> read_tensor(torch.ones(4).half()).bits
        64
    """
    reader = next((reader for reader in TENSOR_READERS.values() if reader.reads(tensor)), None)
    if reader is not None:
        with torch.no_grad():
            return reader.read(tensor)
    return StoredTensor(tensor.detach(), 8 * tensor.nbytes, quantized=False)


def unpacked(bits: int) -> str:
    """The note on codes that are narrower than a byte, each kept in one."""
    return f"codes of {bits} bits are counted as {bits} bits, though in memory each is kept in a byte or more"


def _load() -> None:
    from quant_lens_engine.quantization.custom import kinds

    load_rooms(kinds)


_load()
