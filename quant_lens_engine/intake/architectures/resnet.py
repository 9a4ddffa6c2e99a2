"""Residual networks under torchvision's names of keys: ImageNet's, CIFAR's, wide ones and ResNeXt.

He et al., Deep residual learning for image recognition, 2015; Zagoruyko and Komodakis, Wide residual networks, 2016;
Xie et al., Aggregated residual transformations, 2016. Blocks, stages, widths, groups, stem, head and channels are read
from keys and shapes; what leaves no trace in them is an option.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from quant_lens_engine.errors import ArchitectureError
from quant_lens_engine.intake.architectures import Shapes, architecture, size_of

_BLOCK = re.compile(r"layer(?P<stage>\d+)\.(?P<block>\d+)\.conv1\.weight")
_HEADS = ("fc", "linear")
_PROJECTIONS = ("downsample", "shortcut")


class PaddedShortcut(nn.Module):
    """Option A of He et al.: every second pixel, and zeros for the channels that are new. It has no parameters."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (channels_out - channels_in) // 2
        self.after = channels_out - channels_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, channels_in, h, w)`` to ``(rows, channels_out, h / stride, w / stride)``."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


@dataclass(frozen=True)
class BlockShape:
    """What the keys say of one block.

    Attributes:
        inputs: channels of its input.
        width: channels of its first convolution.
        inner: channels of its second one.
        outputs: channels of its output.
        groups: of its 3 × 3 convolution.
        stride: of its first 3 × 3 convolution.
        bottleneck: three convolutions (1 × 1, 3 × 3, 1 × 1) rather than two.
        projection: the name of its shortcut's convolution and normalisation; None: no parameters.
    """

    inputs: int
    width: int
    inner: int
    outputs: int
    groups: int
    stride: int
    bottleneck: bool
    projection: str | None


class Block(nn.Module):
    """Two or three convolutions, each with BatchNorm, beside a shortcut."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        if shape.bottleneck:
            self.conv1 = nn.Conv2d(shape.inputs, shape.width, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(shape.width)
            self.conv2 = nn.Conv2d(
                shape.width, shape.inner, 3, shape.stride, padding=1, groups=shape.groups, bias=False
            )
            self.bn2 = nn.BatchNorm2d(shape.inner)
            self.conv3 = nn.Conv2d(shape.inner, shape.outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(shape.outputs)
        else:
            self.conv1 = nn.Conv2d(shape.inputs, shape.width, 3, shape.stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(shape.width)
            self.conv2 = nn.Conv2d(shape.width, shape.outputs, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(shape.outputs)
        self.relu = nn.ReLU()
        self.shortcut_name = shape.projection or "padding"
        self.add_module(self.shortcut_name, _shortcut(shape))

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, inputs, h, w)`` to ``(rows, outputs, h / stride, w / stride)``."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if hasattr(self, "conv3"):
            out = self.bn3(self.conv3(self.relu(out)))
        joined: Tensor = self.relu(out + self.get_submodule(self.shortcut_name)(x))
        return joined


class ResNet(nn.Module):
    """A stem, stages of blocks, global average pooling, one linear layer."""

    def __init__(self, stem: nn.Conv2d, stages: list[list[BlockShape]], head: str, classes: int, *, pool: bool) -> None:
        super().__init__()
        self.conv1 = stem
        self.bn1 = nn.BatchNorm2d(stem.out_channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if pool else nn.Identity()
        self.stages = [f"layer{number}" for number in range(1, len(stages) + 1)]
        for name, blocks in zip(self.stages, stages, strict=True):
            self.add_module(name, nn.Sequential(*map(Block, blocks)))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head_name = head
        self.add_module(head, nn.Linear(stages[-1][-1].outputs, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(rows, channels, h, w)`` to class scores ``(rows, classes)``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        scores: Tensor = self.get_submodule(self.head_name)(self.avgpool(x).flatten(1))
        return scores


@architecture("resnet")
def build(tensors: Shapes, *, stem_pool: bool | None = None) -> nn.Module:
    """Residual networks with torchvision's keys (18 to 152, wide, ResNeXt) and CIFAR's; everything read from shapes.

    Args:
        tensors: names and shapes of the state dict.
        stem_pool: whether the stem ends with max pooling; None: it does where its convolution is larger than 3 × 3.
    """
    stages = _stages(tensors) or _usual_stages()
    kernel = size_of(tensors, "conv1.weight", 2, 7)
    stem = nn.Conv2d(
        size_of(tensors, "conv1.weight", 1, 3),
        size_of(tensors, "conv1.weight", 0, 64),
        kernel,
        stride=2 if kernel > 3 else 1,
        padding=kernel // 2,
        bias=False,
    )
    head = next((name for name in _HEADS if f"{name}.weight" in tensors), _HEADS[0])
    classes = size_of(tensors, f"{head}.weight", 0, 1000)
    return ResNet(stem, stages, head, classes, pool=kernel > 3 if stem_pool is None else stem_pool)


def _stages(tensors: Shapes) -> list[list[BlockShape]]:
    """The blocks of each stage, as far as the keys number them without a gap."""
    found: dict[int, set[int]] = {}
    for name in tensors:
        if match := _BLOCK.fullmatch(name):
            found.setdefault(int(match["stage"]), set()).add(int(match["block"]))
    if sorted(found) != list(range(1, len(found) + 1)):
        raise ArchitectureError(f"its stages are numbered {sorted(found)}", hint="layer1, layer2, … without a gap")
    inputs, stages = size_of(tensors, "conv1.weight", 0, 64), []
    for stage in range(1, len(found) + 1):
        blocks = []
        for block in range(len(found[stage])):
            shape = _block(tensors, f"layer{stage}.{block}", inputs, 2 if stage > 1 and block == 0 else 1)
            blocks.append(shape)
            inputs = shape.outputs
        stages.append(blocks)
    return stages


def _block(tensors: Shapes, prefix: str, inputs: int, stride: int) -> BlockShape:
    bottleneck = f"{prefix}.conv3.weight" in tensors
    width = size_of(tensors, f"{prefix}.conv1.weight", 0, inputs)
    inner = size_of(tensors, f"{prefix}.conv2.weight", 0, width)
    outputs = size_of(tensors, f"{prefix}.conv3.weight", 0, inner) if bottleneck else inner
    each = max(1, size_of(tensors, f"{prefix}.conv2.weight", 1, width))
    groups = width // each if bottleneck and width % each == 0 and inner % (width // each) == 0 else 1
    projection = next((name for name in _PROJECTIONS if f"{prefix}.{name}.0.weight" in tensors), None)
    return BlockShape(inputs, width, inner, outputs, groups, stride, bottleneck, projection)


def _shortcut(shape: BlockShape) -> nn.Module:
    if shape.projection is not None:
        return nn.Sequential(
            nn.Conv2d(shape.inputs, shape.outputs, 1, shape.stride, bias=False), nn.BatchNorm2d(shape.outputs)
        )
    if shape.stride == 1 and shape.inputs == shape.outputs:
        return nn.Identity()
    if shape.outputs < shape.inputs:
        raise ArchitectureError(f"a block from {shape.inputs} to {shape.outputs} channels without a projection")
    return PaddedShortcut(shape.inputs, shape.outputs, shape.stride)


def _usual_stages() -> list[list[BlockShape]]:
    """ResNet-18's: what other keys are compared with."""
    stages, inputs = [], 64
    for number, width in enumerate((64, 128, 256, 512)):
        first = BlockShape(
            inputs, width, width, width, 1, 2 if number else 1, False, "downsample" if number else None
        )  # fmt: skip
        stages.append([first, BlockShape(width, width, width, width, 1, 1, False, None)])
        inputs = width
    return stages
