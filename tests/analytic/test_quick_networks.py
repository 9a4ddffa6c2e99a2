"""A quick network has the network's losses, and a place takes one copy of the parameters."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant_lens_engine.landscape import Surroundings, trace_1d_loss
from quant_lens_engine.landscape.folding import folded
from quant_lens_engine.landscape.plane_frame import PlaneFrame, plane_frame
from quant_lens_engine.landscape.planes import quick_places
from quant_lens_engine.landscape.quick_network import FEWEST_PLACES, QuickNetwork, quick_network
from quant_lens_engine.landscape.readings import Reader
from quant_lens_engine.landscape.surroundings import moved
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT
from quant_lens_engine.schema import PlaneOptions


class Residual(nn.Module):
    """Two convolutions, one without a bias, beside a shortcut that reads what the first normalisation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        self.head, self.head_norm = nn.Linear(8, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, 2, 6, 6)`` to ``(rows, 5)``."""
        x = F.relu(self.first_norm(self.first(x)))
        x = F.relu(x + self.second_norm(self.second(x)))
        out: Tensor = self.head_norm(self.head(x.mean((2, 3))))
        return out


class Reader2(Residual):
    """What the first convolution gives is read twice."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shapes."""
        raw: Tensor = self.first(x)
        return super().forward(x) + raw.mean((1, 2, 3))[:, None]


class Branching(Residual):
    """torch.fx cannot trace it."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shapes."""
        return super().forward(x) if x.sum() > 0 else super().forward(2 * x)


def trained(kind: type[nn.Module] = Residual) -> nn.Module:
    torch.manual_seed(0)
    model = kind()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model


class Wide(nn.Module):
    """Convolutions of so many channels; what they give is laid out anew, or viewed as it lies."""

    def __init__(self, channels: int, *, viewed: bool = False, normalised: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(channels) if normalised else nn.Identity()
        self.head, self.viewed = nn.Linear(36 * channels, 5), viewed

    def forward(self, x: Tensor) -> Tensor:
        """``(rows, 2, 6, 6)`` to ``(rows, 5)``."""
        x = F.relu(self.norm(self.second(F.relu(self.first(x)))))
        out: Tensor = self.head(x.view(x.shape[0], -1) if self.viewed else x.flatten(1))
        return out


def plane(
    model: nn.Module, names: tuple[str, str] = ("random:1", "random:2"), places: int = FEWEST_PLACES
) -> tuple[PlaneFrame, Objective, QuickNetwork | None]:
    x, y = torch.randn(37, 2, 6, 6), torch.arange(37) % 5
    network = Objective(model, [(x, y)], micro_batch=16)
    frame = plane_frame(Surroundings(network), names, PlaneOptions(steps=3, distance=0.5), Reader(SILENT, "", 9))
    return frame, network, quick_network(network, network.point, frame.axes, places)


@pytest.mark.parametrize(
    ("model", "folds", "is_channels_last"),
    [
        (trained(), 3, True),
        (Wide(16), 1, True),
        (Wide(16, normalised=False), 0, True),
        (Wide(16, viewed=True), 1, False),
        (Wide(4), 1, False),
    ],
)
def test_a_quick_network_has_the_same_losses(model: nn.Module, folds: int, is_channels_last: bool) -> None:
    frame, network, quick = plane(model.eval())
    assert quick is not None
    assert len(quick.folding.layers if quick.folding else ()) == folds
    assert quick.is_channels_last == is_channels_last, "not for a view of what lies otherwise, nor for narrow layers"
    assert ("channels last" in quick.sentence) == is_channels_last
    at = quick_places(frame, quick)
    assert at(0.0, 0.0).loss() == network.loss()
    assert quick.change <= 1e-5 * network.loss()
    for place in [(0.5, 0.0), (-0.5, 0.25), (0.1, -0.5), (1.0, 1.0)]:
        exact = network.at(frame.place(network.point, *place)).measure()
        found = at(*place).measure()
        assert found.loss.value == pytest.approx(exact.loss.value, rel=1e-5)
        assert found.accuracy == exact.accuracy


def test_each_layer_and_its_normalisation_are_found() -> None:
    _, _, quick = plane(trained())
    assert quick is not None
    assert quick.folding is not None
    assert quick.folding.layers == {"first": "first_norm", "second": "second_norm", "head": "head_norm"}
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in quick.network.model.modules())


def test_what_is_not_exact_or_does_not_pay_is_left_alone() -> None:
    frame, network, quick = plane(trained(Branching))
    assert quick is None or quick.folding is None
    frame, network, quick = plane(trained(Reader2))
    assert quick is None or quick.folding is None or "first" not in quick.folding.layers
    frame, network, _ = plane(trained(), ("random-raw:1", "random:1"))
    folding = folded(network, network.point, frame.axes)
    assert folding is not None
    assert folding.layers == {"second": "second_norm"}, "its directions move γ and β of the other two"
    assert plane(nn.Sequential(nn.Flatten(), nn.Linear(72, 5)))[2] is None
    assert plane(trained(), places=FEWEST_PLACES - 1)[2] is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_blocks_change_no_digit(dtype: torch.dtype) -> None:
    origin = {name: torch.randn(shape).to(dtype) for name, shape in [("a", (700, 900)), ("b", (3,)), ("c", ())]}
    one, two = ({name: torch.randn_like(tensor) for name, tensor in origin.items()} for _ in range(2))
    kept = {name: tensor.clone() for name, tensor in origin.items()}
    place = moved(origin, (one, 0.3), (two, -0.7))
    for name, tensor in origin.items():
        assert torch.equal(place[name], tensor.double().add(one[name], alpha=0.3).add(two[name], alpha=-0.7).to(dtype))
        assert torch.equal(tensor, kept[name])


PEAK = """
import pathlib, sys, torch
from torch import nn
from quant_lens_engine.landscape.surroundings import moved
from quant_lens_engine.objective import Objective
side = int(sys.argv[1])
torch.set_num_threads(1)
network = Objective(nn.Linear(side, side, bias=False), [(torch.ones(2, side), torch.zeros(2, side))], task="regression")
axes = [{"weight": torch.ones(side, side)} for _ in range(2)]
network.at(moved(network.point, (axes[0], 0.1), (axes[1], 0.2))).loss()  # what is loaded at the first place is no copy
side_copy = 4 * side * side / 1024
def kib(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
now = kib("VmRSS")
for step in range(1, 6):
    network.at(moved(network.point, (axes[0], 0.1 * step), (axes[1], 0.2))).loss()
print((kib("VmHWM") - now) / side_copy)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("side", [3600, 5100])
def test_a_place_takes_one_copy_of_the_parameters(side: int) -> None:
    """Of 52 and of 104 MB, in one tensor; the two directions are there already."""
    done = subprocess.run([sys.executable, "-c", PEAK, str(side)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.3


@pytest.mark.parametrize(
    "normed", [nn.utils.weight_norm, nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm]
)
@pytest.mark.filterwarnings("ignore")
def test_a_weight_that_is_made_in_each_pass_is_not_folded(normed):
    torch.manual_seed(0)
    model = nn.Sequential(normed(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 4)).eval()
    data = [(torch.randn(32, 3, 8, 8), torch.randint(4, (32,)))]
    alphas, losses = trace_1d_loss(model, data, steps=31)
    assert losses[alphas == 0].tolist() == [Objective(model, data).loss()]


def test_a_forward_that_reads_the_statistics_is_measured_as_it_is():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

        def forward(self, x):
            return self.last(self.norm(self.layer(x)) + self.norm.running_mean)

    torch.manual_seed(0)
    model, data = Reads().eval(), [(torch.randn(40, 6), torch.randint(3, (40,)))]
    alphas, losses = trace_1d_loss(model, data, steps=31)
    assert losses[alphas == 0].tolist() == [Objective(model, data).loss()]
