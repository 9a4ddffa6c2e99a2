"""The residual family: published sizes, every spelling that occurs, and the same answers as other implementations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from quant_lens_engine.errors import ArchitectureError
from quant_lens_engine.intake import (
    ARCHITECTURES,
    build_model,
    choose_architecture,
    load_plugins,
    open_checkpoint,
    rank_architectures,
)

PLUGINS = Path(__file__).parents[3] / "examples" / "plugins"


def conv(name, out, into, kernel):
    return {f"{name}.weight": (out, into, kernel, kernel)}


def norm(name, width):
    keys = {f"{name}.{key}": (width,) for key in ("weight", "bias", "running_mean", "running_var")}
    return keys | {f"{name}.num_batches_tracked": ()}


def torchvision_keys(blocks, *, bottleneck, base=64, groups=1, classes=1000):
    """Names and shapes as torchvision.models.resnet writes them, from its documented formula (no torchvision here)."""
    found = conv("conv1", 64, 3, 7) | norm("bn1", 64)
    into = 64
    for stage, count in enumerate(blocks, start=1):
        planes = 64 * 2 ** (stage - 1)
        width, out = (planes * base // 64 * groups, planes * 4) if bottleneck else (planes, planes)
        for block in range(count):
            at = f"layer{stage}.{block}"
            if bottleneck:
                found |= conv(f"{at}.conv1", width, into, 1) | norm(f"{at}.bn1", width)
                found |= conv(f"{at}.conv2", width, width // groups, 3) | norm(f"{at}.bn2", width)
                found |= conv(f"{at}.conv3", out, width, 1) | norm(f"{at}.bn3", out)
            else:
                found |= conv(f"{at}.conv1", out, into, 3) | norm(f"{at}.bn1", out)
                found |= conv(f"{at}.conv2", out, out, 3) | norm(f"{at}.bn2", out)
            if block == 0 and (stage > 1 or out != into):
                found |= conv(f"{at}.downsample.0", out, into, 1) | norm(f"{at}.downsample.1", out)
            into = out
    return found | {"fc.weight": (classes, into), "fc.bias": (classes,)}


PUBLISHED = {
    "resnet18": ({"blocks": (2, 2, 2, 2), "bottleneck": False}, 11_689_512),
    "resnet34": ({"blocks": (3, 4, 6, 3), "bottleneck": False}, 21_797_672),
    "resnet50": ({"blocks": (3, 4, 6, 3), "bottleneck": True}, 25_557_032),
    "resnet101": ({"blocks": (3, 4, 23, 3), "bottleneck": True}, 44_549_160),
    "resnet152": ({"blocks": (3, 8, 36, 3), "bottleneck": True}, 60_192_808),
    "resnext50_32x4d": ({"blocks": (3, 4, 6, 3), "bottleneck": True, "base": 4, "groups": 32}, 25_028_904),
    "wide_resnet50_2": ({"blocks": (3, 4, 6, 3), "bottleneck": True, "base": 128}, 68_883_240),
    "wide_resnet101_2": ({"blocks": (3, 4, 23, 3), "bottleneck": True, "base": 128}, 126_886_696),
}
"""Parameters as https://pytorch.org/vision/stable/models.html lists them."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    how, parameters = PUBLISHED[name]
    shapes = torchvision_keys(**how)
    fitting = [match.architecture for match in rank_architectures(shapes) if match.fits]
    assert fitting == ["resnet"]
    with torch.device("meta"):
        model = ARCHITECTURES["resnet"].build(shapes)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_answer_is_that_of_the_layers_put_together_by_hand():
    torch.manual_seed(0)
    shapes = torchvision_keys((1, 1), bottleneck=True, base=4, groups=2, classes=5)
    model = ARCHITECTURES["resnet"].build(shapes).double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    state, x = model.state_dict(), torch.randn(2, 3, 32, 32, dtype=torch.float64)

    def run(x, key, bn, stride=1, padding=0, groups=1):
        x = nn.functional.conv2d(x, state[f"{key}.weight"], stride=stride, padding=padding, groups=groups)
        mean, var = state[f"{bn}.running_mean"], state[f"{bn}.running_var"]
        return nn.functional.batch_norm(x, mean, var, state[f"{bn}.weight"], state[f"{bn}.bias"])

    h = nn.functional.max_pool2d(run(x, "conv1", "bn1", 2, 3).relu(), 3, 2, 1)
    for at, stride in (("layer1.0", 1), ("layer2.0", 2)):
        out = run(h, f"{at}.conv1", f"{at}.bn1").relu()
        out = run(out, f"{at}.conv2", f"{at}.bn2", stride, 1, 2).relu()
        out = run(out, f"{at}.conv3", f"{at}.bn3")
        h = (out + run(h, f"{at}.downsample.0", f"{at}.downsample.1", stride)).relu()
    expected = h.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    with torch.no_grad():
        assert torch.allclose(model(x), expected, rtol=1e-12, atol=1e-12)


def cifar_state(width=4, blocks=2, classes=7):
    load_plugins(PLUGINS)
    shapes = {"conv1.weight": (width, 3, 3, 3), "linear.weight": (classes, 4 * width)}
    for stage in (1, 2, 3):
        for block in range(blocks):
            shapes[f"layer{stage}.{block}.conv1.weight"] = (width * 2 ** (stage - 1),)
    torch.manual_seed(1)
    return ARCHITECTURES["cifar-resnet"].build(shapes).eval()


@pytest.fixture
def forgotten():
    yield
    load_plugins(None)


def test_cifars_networks_answer_as_the_teams_plug_in_does(tmp_path, forgotten):
    expected = cifar_state()
    torch.save(expected.state_dict(), tmp_path / "m.pt")
    found = open_checkpoint(tmp_path / "m.pt")
    assert choose_architecture(found, "auto").name == "cifar-resnet"  # a plug-in that fits is what the team means
    load_plugins(None)
    chosen = choose_architecture(found, "auto")
    assert chosen.name == "resnet"
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(build_model(found, chosen)(x), expected(x), rtol=1e-5, atol=1e-6)


def test_other_spellings_of_head_and_shortcut_are_taken(tmp_path):
    shapes = {
        name.replace("downsample", "shortcut").replace("fc.", "linear."): shape
        for name, shape in torchvision_keys((2, 2), bottleneck=False, classes=4).items()
    } | {"conv1.weight": (64, 1, 3, 3)}
    torch.save({name: torch.rand(shape) for name, shape in shapes.items()}, tmp_path / "m.pt")
    found = open_checkpoint(tmp_path / "m.pt")
    model = build_model(found, choose_architecture(found, "auto"))
    assert isinstance(model.maxpool, nn.Identity)
    assert model.conv1.stride == (1, 1)
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 4)
    assert isinstance(build_model(found, ARCHITECTURES["resnet"], {"stem_pool": True}).maxpool, nn.MaxPool2d)


def test_a_body_without_its_head_is_called_one(tmp_path):
    shapes = torchvision_keys((1, 1), bottleneck=False)
    body = {name: torch.rand(shape) for name, shape in shapes.items() if not name.startswith("fc.")}
    torch.save(body, tmp_path / "m.pt")
    with pytest.raises(ArchitectureError, match="a body without its head") as caught:
        choose_architecture(open_checkpoint(tmp_path / "m.pt"), "auto")
    assert "a body alone gives no class scores" in caught.value.hint


def test_a_public_checkpoint_reaches_its_published_accuracy_without_a_plug_in(assets):
    from quant_lens_engine.intake import read_arrays, select_rows
    from quant_lens_engine.schema import Transform

    load_plugins(None)
    found = open_checkpoint(assets / "models/cifar10_resnet20/resnet20-12fca82f.th")
    model = build_model(found, choose_architecture(found, "auto"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 269_722
    transform = Transform(layout="NHWC", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    _, arrays = read_arrays(assets / "data/cifar10_test1k/data.npz", "data.npz")
    rows = select_rows(arrays, transform, limit=None, seed=0, task="classification")
    with torch.no_grad():
        answers = torch.cat([model(part).argmax(1) for part in torch.from_numpy(rows.x).split(250)])
    assert float((answers == torch.from_numpy(rows.y)).double().mean()) == pytest.approx(0.915, abs=1e-9)
