"""LeNet-5's shape with BatchNorm, as ``features`` and ``classifier``.

After LeCun et al., Gradient-based learning applied to document recognition, 1998: two convolutions with pooling, three
fully connected layers.
"""

from __future__ import annotations

from torch import nn

from quant_lens_engine.intake.architectures import Shapes, architecture, size_of


@architecture("lenet-bn")
def build(tensors: Shapes, *, first_padding: int | None = None) -> nn.Module:
    """LeNet with BatchNorm after each convolution; the first one keeps the image's size."""
    channels = size_of(tensors, "features.0.weight", 1, 1)
    first, second = size_of(tensors, "features.0.weight", 0, 8), size_of(tensors, "features.4.weight", 0, 16)
    kernel1, kernel2 = size_of(tensors, "features.0.weight", 2, 5), size_of(tensors, "features.4.weight", 2, 5)
    flat, wide = size_of(tensors, "classifier.1.weight", 1, 400), size_of(tensors, "classifier.1.weight", 0, 120)
    narrow, classes = size_of(tensors, "classifier.3.weight", 0, 84), size_of(tensors, "classifier.5.weight", 0, 10)
    padding = kernel1 // 2 if first_padding is None else first_padding
    model = nn.Sequential()
    model.features = nn.Sequential(
        nn.Conv2d(channels, first, kernel1, padding=padding, bias="features.0.bias" in tensors),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, kernel2, bias="features.4.bias" in tensors),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    model.classifier = nn.Sequential(
        nn.Flatten(), nn.Linear(flat, wide), nn.ReLU(), nn.Linear(wide, narrow), nn.ReLU(), nn.Linear(narrow, classes)
    )
    return model
