"""A team's architecture as a plug-in: the CIFAR ResNet of He et al., Deep residual learning, 2015 (section 4.2).

Put this file into the folder that ``QUANT_LENS_PLUGINS`` names (``--plugins`` on the command line); checkpoints whose
keys and shapes fit are then recognised. Every depth 6n + 2 and every width is read from the shapes.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from quant_lens_engine import architecture


class Shortcut(nn.Module):
    """Option A: every second pixel, and zeros for the channels that are new. It has no parameters."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.before = (channels_out - channels_in) // 2
        self.after = channels_out - channels_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, channels_in, h, w)`` to ``(rows, channels_out, h / 2, w / 2)``."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        stride = 1 if channels_in == channels_out else 2
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Identity() if stride == 1 else Shortcut(channels_in, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, channels_in, h, w)`` to ``(rows, channels_out, h / stride, w / stride)``."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """Three stages of blocks; global average pooling; one linear layer."""

    def __init__(self, channels: int, widths: tuple[int, int, int], blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = self._stage(widths[0], widths[0], blocks)
        self.layer2 = self._stage(widths[0], widths[1], blocks)
        self.layer3 = self._stage(widths[1], widths[2], blocks)
        self.linear = nn.Linear(widths[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(rows, channels, h, w)`` to class scores ``(rows, classes)``."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))

    @staticmethod
    def _stage(channels_in: int, channels_out: int, blocks: int) -> nn.Sequential:
        rest = [BasicBlock(channels_out, channels_out) for _ in range(blocks - 1)]
        return nn.Sequential(BasicBlock(channels_in, channels_out), *rest)


@architecture("cifar-resnet")
def build(tensors: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """ResNet for CIFAR with option-A shortcuts, any depth 6n + 2."""
    channels = tensors.get("conv1.weight", (16, 3))[1]
    widths = tuple(tensors.get(f"layer{stage}.0.conv1.weight", (16 * 2 ** (stage - 1),))[0] for stage in (1, 2, 3))
    blocks = len({name.split(".")[1] for name in tensors if name.startswith("layer1.")}) or 3
    classes = tensors.get("linear.weight", (10,))[0]
    return CifarResNet(channels, widths, blocks, classes)
