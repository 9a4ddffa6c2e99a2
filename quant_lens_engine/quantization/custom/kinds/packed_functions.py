"""FX-quantized functions (``F.linear``, ``F.conv2d`` on parameters of a module's own): packed weights in the graph.

The graph does not say which parameter was packed: weight and bias stay without a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from quant_lens_engine.objective.evaluation_mode import is_exported
from quant_lens_engine.quantization.custom.reading import (
    MODULE_READERS,
    NAMELESS,
    StoredTensor,
    plain_tensors,
    read_tensor,
)


class PackedFunctions:
    """A traced network; its modules are read by themselves."""

    whole: ClassVar[bool] = False

    def reads(self, module: nn.Module) -> bool:
        """Whether it holds packed weights itself."""
        return isinstance(module, fx.GraphModule) and not is_exported(module) and bool(_packed(module))

    def tensors(self, module: nn.Module) -> Iterator[tuple[str, StoredTensor]]:
        """Plain ones, and the packed ones without their names."""
        yield from plain_tensors(module)
        for attribute, packed in _packed(module).items():
            linear = "LinearPackedParams" in str(packed)
            for place, tensor in enumerate(torch.ops.quantized.linear_unpack(packed) if linear else packed.unpack()):
                if isinstance(tensor, Tensor):
                    yield f"{NAMELESS}{attribute}.{place}", read_tensor(tensor)


def _packed(module: nn.Module) -> dict[str, Any]:
    return {key: value for key, value in vars(module).items() if isinstance(value, torch.ScriptObject)}


MODULE_READERS.add("packed-functions", PackedFunctions())
