"""Layers that ``torch.ao.quantization`` fused (``fuse_modules``, FX) and left in float: a convolution and its ReLU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import nn

from quant_lens_engine.quantization.custom.reading import MODULE_READERS, StoredTensor, Unmapped, read_model


class FusedModules:
    """A sequence whose first module stands at the name of the layer."""

    whole: ClassVar[bool] = True

    def reads(self, module: nn.Module) -> bool:
        """Whether it is one of ``torch.ao.nn.intrinsic``."""
        return isinstance(module, nn.Sequential) and type(module).__module__.startswith("torch.ao.nn.intrinsic.modules")

    def tensors(self, module: nn.Module) -> Iterator[tuple[str, StoredTensor]]:
        """Those of the first module, by its own names."""
        first, *behind = module.children()
        if any(True for other in behind for _ in other.parameters()):
            raise Unmapped(
                f"a {type(module).__name__} of the custom model keeps its normalisation beside the layer: it is "
                "prepared for training, and not converted yet"
            )
        yield from read_model(first).items()


MODULE_READERS.add("fused", FusedModules())
