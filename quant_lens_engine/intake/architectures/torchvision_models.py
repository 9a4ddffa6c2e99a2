"""torchvision's models by name, where torchvision can be imported. https://pytorch.org/vision/stable/models.html"""

from __future__ import annotations

from torch import nn

from quant_lens_engine.intake.architectures import Shapes, architecture
from quant_lens_engine.intake.architectures._model_libraries import import_library, named_model, sized


@architecture("torchvision")
def build(tensors: Shapes, *, model: str | None = None) -> nn.Module:
    """A model of torchvision by its name, such as {"model": "vit_b_16"}; needs torchvision on the worker.

    Args:
        tensors: names and shapes of the state dict.
        model: as ``torchvision.models`` names its classifiers; the number of classes is read from the tensors.
    """
    models = import_library("torchvision").models
    name = named_model("torchvision", model, list(models.list_models(module=models)))
    return sized(lambda sizes: models.get_model(name, weights=None, **sizes), tensors, {"classes": "num_classes"})
