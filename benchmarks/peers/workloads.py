"""Three networks, briefly trained on scikit-learn's digits, so that their spectra are those of trained networks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from quant_lens_engine.intake.architectures.digits_transformer import DigitsTransformer
from quant_lens_engine.objective import Objective

PLUGINS = Path(__file__).parents[2] / "examples" / "plugins"

Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Workload:
    """A model at a point of interest, and its sample.

    Attributes:
        name: W1, W2 or W3.
        title: what it is.
        model: in ``eval()``.
        batches: as a loader would give them; the last may be ragged.
    """

    name: str
    title: str
    model: nn.Module
    batches: Batches

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return next(self.model.parameters()).dtype

    @property
    def dimension(self) -> int:
        """How many parameters there are."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def whole(self) -> Batches:
        """The sample as one batch."""
        return [(torch.cat([x for x, _ in self.batches]), torch.cat([y for _, y in self.batches]))]

    @property
    def layers(self) -> dict[str, tuple[str, ...]]:
        """The weight of each layer that quantization would touch, with its bias."""
        return {
            name: tuple(f"{name}.{own}" for own, _ in module.named_parameters(recurse=False))
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        }

    @property
    def quick(self) -> bool:
        """Whether products are so cheap that nothing has to be extrapolated."""
        return self.name == "W1"

    @property
    def seeds(self) -> range:
        """How often each part is taken: the median counts."""
        return range({"W1": 3, "W2": 1, "W3": 1}[self.name])

    @property
    def cap_s(self) -> float:
        """CPU seconds that a library gets for one part, its search for a setting included."""
        return {"W1": 30.0, "W2": 100.0, "W3": 60.0}[self.name]

    @property
    def trace_cap_s(self) -> float:
        """The same for a trace, which takes many products."""
        return {"W1": 30.0, "W2": 200.0, "W3": 200.0}[self.name]

    def layer_sums(self, diagonal: Tensor) -> dict[str, float]:
        """Each layer's part of a diagonal that is flat, in the order of the parameters."""
        sizes = {name: parameter.numel() for name, parameter in self.model.named_parameters()}
        pieces = dict(zip(sizes, diagonal.detach().split(list(sizes.values())), strict=True))
        return {layer: sum(float(pieces[name].sum()) for name in names) for layer, names in self.layers.items()}

    def objective(self) -> Objective:
        """The engine's view of it."""
        return Objective(self.model, self.batches)

    def first(self, rows: int) -> Workload:
        """The same network on the sample's first rows, in one batch."""
        x, y = self.whole[0]
        return Workload(self.name, self.title, self.model, [(x[:rows], y[:rows])])


def digits() -> tuple[Tensor, Tensor]:
    """Images ``(1797, 1, 8, 8)`` in 0 to 1, and labels."""
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def train(model: nn.Module, x: Tensor, y: Tensor, *, rows: int, steps: int, rate: float) -> nn.Module:
    """Adam for so many steps, in an order that a seed fixes."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    source = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(x), (rows,), generator=source)
        optimizer.zero_grad()
        F.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    return model.eval()


def mlp() -> Workload:
    """10 002 parameters in float64, in batches of 512, 512, 512 and 261."""
    torch.manual_seed(0)
    x, y = digits()
    x = x.flatten(1).double()
    model = nn.Sequential(nn.Linear(64, 72), nn.Tanh(), nn.Linear(72, 64), nn.Tanh(), nn.Linear(64, 10)).double()
    train(model, x, y, rows=128, steps=60, rate=3e-3)
    return Workload("W1", "MLP, float64", model, list(zip(x.split(512), y.split(512), strict=True)))


def resnet(pixels: int = 16) -> Workload:
    """ResNet-20 in float32 on 512 digits in colour, in batches of 128. Of 16 × 16 pixels, so that all of the peers can
    be run to their end in minutes; its parameters are those of 32 × 32."""
    sys.path.insert(0, str(PLUGINS))
    from cifar_resnet import CifarResNet  # registers an architecture, so only where it is wanted

    torch.manual_seed(0)
    x, y = digits()
    tint = torch.rand(len(x), 3, 1, 1, generator=torch.Generator().manual_seed(1))
    images = (F.interpolate(x, size=(pixels, pixels), mode="bilinear") * (0.5 + tint) - 0.3) / 0.35
    model = train(CifarResNet(3, (16, 32, 64), 3, 10), images, y, rows=64, steps=100, rate=3e-3)
    batches = list(zip(images[:512].split(128), y[:512].split(128), strict=True))
    return Workload("W2", f"ResNet-20, 512 samples of {pixels} × {pixels}", model, batches)


def transformer() -> Workload:
    """An encoder over the 64 pixels of a digit, 2.0 M parameters in float32, on 16 samples in one batch."""
    torch.manual_seed(0)
    x, y = digits()
    model = DigitsTransformer(pixels=1, tokens=64, width=204, hidden=816, depth=4, heads=6, classes=10)
    nn.init.normal_(model.position, std=0.5)
    train(model, x[:64], y[:64], rows=16, steps=120, rate=1e-3)
    return Workload("W3", "transformer, 16 samples", model, [(x[:16], y[:16])])


WORKLOADS: dict[str, Callable[[], Workload]] = {"W1": mlp, "W3": transformer, "W2": resnet}
