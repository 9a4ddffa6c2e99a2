"""torchvision's models by name, where torchvision can be imported. https://pytorch.org/vision/stable/models.html"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Mapping

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
    switches = _switches(models.get_model_builder(name), tensors)
    return sized(
        lambda sizes: models.get_model(name, weights=None, **switches, **sizes), tensors, {"classes": "num_classes"}
    )


def _switches(builder: Callable[..., nn.Module], tensors: Shapes) -> Mapping[str, bool]:
    """Of GoogLeNet and Inception: no further answers where the file has no weights for them, as the published ones have
    none after loading; and no initial weights from a distribution that takes a minute to draw from.
    """
    options = _options(builder)
    switches = {}
    if "aux_logits" in options:
        switches["aux_logits"] = any(name.lower().startswith("aux") for name in tensors)
    if "init_weights" in options:
        switches["init_weights"] = False
    return switches


def _options(builder: Callable[..., nn.Module]) -> Collection[str]:
    """Its own, and where it passes on what it is given, those of the class that it returns."""
    known = inspect.signature(builder)
    made = typing.get_type_hints(inspect.unwrap(builder)).get("return")
    passed_on = inspect.signature(made).parameters if isinstance(made, type) else {}
    return {*known.parameters, *passed_on}
