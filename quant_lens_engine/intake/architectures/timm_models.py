"""timm's models by name, where timm can be imported. https://huggingface.co/docs/timm"""

from __future__ import annotations

from torch import nn

from quant_lens_engine.intake.architectures import Shapes, architecture
from quant_lens_engine.intake.architectures._model_libraries import import_library, named_model, sized


@architecture("timm")
def build(tensors: Shapes, *, model: str | None = None) -> nn.Module:
    """A model of timm by its name, such as {"model": "vit_tiny_patch16_224"}; needs timm on the worker.

    Args:
        tensors: names and shapes of the state dict.
        model: as ``timm.list_models()`` names it; classes and channels are read from the tensors.
    """
    timm = import_library("timm")
    name = named_model("timm", model, list(timm.list_models()))
    return sized(
        lambda sizes: timm.create_model(name, pretrained=False, **sizes),
        tensors,
        {"classes": "num_classes", "channels": "in_chans"},
    )
