"""The multilayer perceptron of the examples."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from quant_lens_engine.intake.architectures import Shapes, architecture, size_of


@architecture("digits-mlp")
def build(tensors: Shapes) -> nn.Module:
    """Two hidden layers with ReLU on 8 × 8 digits (an example)."""
    inputs = size_of(tensors, "hidden1.weight", 1, 64)
    first = size_of(tensors, "hidden1.weight", 0, 32)
    second = size_of(tensors, "hidden2.weight", 0, 32)
    classes = size_of(tensors, "classifier.weight", 0, 10)
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            hidden1=nn.Linear(inputs, first),
            relu1=nn.ReLU(),
            hidden2=nn.Linear(first, second),
            relu2=nn.ReLU(),
            classifier=nn.Linear(second, classes),
        )
    )
