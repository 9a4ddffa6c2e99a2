"""A module that came out of a trusted file as it is: the network itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from quant_lens_engine.intake.graphs.network import Shapes


@dataclass(frozen=True)
class LoadedModule:
    """A network in memory, whose class is there to compute with.

    Attributes:
        module: as it was loaded, in ``eval()`` mode; nothing here changes it.
        plugins: name and SHA-256 of every plug-in file that supplied a class.
        libraries: version of every library, beyond torch, that did.
    """

    module: nn.Module
    plugins: tuple[tuple[str, str], ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)

    @property
    def buffers(self) -> Mapping[str, torch.dtype]:
        """Dtypes of its buffers, by their names."""
        return {name: buffer.dtype for name, buffer in self.module.named_buffers(remove_duplicate=False)}

    @property
    def sentence(self) -> str:
        """For the inspection."""
        return f"The file is its own network ({type(self.module).__qualname__}): no architecture is needed."

    def build(self, tensors: Shapes) -> nn.Module:  # noqa: ARG002  (it has its own sizes)
        """A copy; on the meta device, where torch makes tensors without memory, one without memory for weights."""
        without_memory = torch.get_default_device().type == "meta"
        stand_ins = {id(tensor): _without_memory(tensor) for tensor in self._tensors()} if without_memory else {}
        return copy.deepcopy(self.module, stand_ins).eval()

    def check(self, module: nn.Module) -> None:
        """Its class answers for it."""

    def _tensors(self) -> list[Tensor]:
        return [*self.module.parameters(), *self.module.buffers()]


def _without_memory(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
