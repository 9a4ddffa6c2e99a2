"""The convolutional network of the examples, with BatchNorm."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from quant_lens_engine.intake.architectures import Shapes, architecture, size_of


@architecture("digits-cnn")
def build(tensors: Shapes) -> nn.Module:
    """Two 3 × 3 convolutions with BatchNorm on 8 × 8 digits (an example)."""
    inputs = size_of(tensors, "conv1.weight", 1, 1)
    first = size_of(tensors, "conv1.weight", 0, 8)
    second = size_of(tensors, "conv2.weight", 0, 16)
    features = size_of(tensors, "classifier.weight", 1, second * 16)
    classes = size_of(tensors, "classifier.weight", 0, 10)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(inputs, first, 3, padding=1, bias=False),
            norm1=nn.BatchNorm2d(first),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(first, second, 3, padding=1, bias=False),
            norm2=nn.BatchNorm2d(second),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            classifier=nn.Linear(features, classes),
        )
    )
