"""The families torchvision and timm.

Neither library is installed beside the project, so they run against stand-ins: small modules put on sys.path, with the
functions of the real API that we call (list_models, get_model, get_model_builder, create_model). Three of the networks
do what real ones were seen to do: one has further answers while it trains, one reads a number off a tensor while it is
built, one asks for the version of what it loads.
"""

from __future__ import annotations

import sys
import textwrap

import pytest
import torch

from quant_lens_engine.errors import ArchitectureError
from quant_lens_engine.intake import (
    ARCHITECTURES,
    build_model,
    choose_architecture,
    match_architecture,
    open_checkpoint,
)

NETWORK = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes=1000, in_chans=3):
        super().__init__()
        self.stem = nn.Conv2d(in_chans, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x):
        return self.head(self.norm(self.stem(x)).mean((2, 3)))
"""

TORCHVISION = """
from typing import Any

import torch


class WithAux(Net):  # as GoogLeNet
    def __init__(self, num_classes=1000, aux_logits=True, init_weights=None):
        super().__init__(num_classes)
        assert init_weights is False, "drawn for a minute"
        if aux_logits:
            self.aux1 = nn.Linear(6, num_classes)


class Computed(Net):  # as RegNet
    def __init__(self, num_classes=1000):
        super().__init__(num_classes)
        self.scale = torch.arange(3.0).tolist()[2]


class Versioned(Net):  # as MNASNet
    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if local_metadata.get("version") not in {1, 2}:
            raise ValueError("version should be set to 1 or 2")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def small_net(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> Net:
    return Net(**kwargs)


def with_aux(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> WithAux:
    return WithAux(**kwargs)


def computed(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> Computed:
    return Computed(**kwargs)


def versioned(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> Versioned:
    return Versioned(**kwargs)


BUILDERS = {"small_net": small_net, "with_aux": with_aux, "computed": computed, "versioned": versioned}


def list_models(module=None):
    return ["other", *BUILDERS]


def get_model_builder(name):
    return BUILDERS[name]


def get_model(name, **config):
    return get_model_builder(name)(**config)
"""

TIMM = """
class Headless(Net):  # as DINOv2's and SigLIP's
    def __init__(self, num_classes=0, in_chans=3):
        super().__init__(num_classes or 1, in_chans)
        self.body = nn.Linear(6, 6)
        if not num_classes:
            self.head = nn.Identity()


def list_models(filter=""):
    return ["small_net", "small_net_large", "headless"]


def create_model(model_name, pretrained=False, **kwargs):
    assert not pretrained
    return {"small_net": Net, "headless": Headless}[model_name](**kwargs)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a module of that name on sys.path; the real one, should it be there, is not looked at."""

    def write(name, text):
        folder = tmp_path / "libraries" / name
        folder.mkdir(parents=True)
        if name == "torchvision":
            (folder / "__init__.py").write_text("from . import models")
            (folder / "models.py").write_text(NETWORK + textwrap.dedent(text))
        else:
            (folder / "__init__.py").write_text(NETWORK + textwrap.dedent(text))
        monkeypatch.syspath_prepend(str(tmp_path / "libraries"))
        for loaded in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
            monkeypatch.delitem(sys.modules, loaded)
        return __import__(name)

    yield write
    for name in ("torchvision", "timm"):
        for loaded in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
            del sys.modules[loaded]


@pytest.mark.parametrize(("family", "text"), [("torchvision", TORCHVISION), ("timm", TIMM)])
def test_a_model_is_built_by_its_name_with_the_files_classes(tmp_path, stand_in, family, text):
    library = stand_in(family, text)
    net = library.models.Net if family == "torchvision" else library.Net
    torch.manual_seed(0)
    saved = net(num_classes=7).eval()
    torch.save(saved.state_dict(), tmp_path / "m.pt")
    found = open_checkpoint(tmp_path / "m.pt")
    options = {"model": "small_net"}
    chosen = choose_architecture(found, family, options)
    x = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        assert torch.equal(build_model(found, chosen, options)(x), saved(x))


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("with_aux", {"aux_logits": True, "init_weights": False}),
        ("with_aux", {"aux_logits": False, "init_weights": False}),
        ("computed", {}),
        ("versioned", {}),
    ],
)
def test_networks_of_torchvision_with_ways_of_their_own(tmp_path, stand_in, model, given):
    models = stand_in("torchvision", TORCHVISION).models
    torch.manual_seed(0)
    saved = models.get_model(model, num_classes=7, **given).eval()
    torch.save(dict(saved.state_dict()), tmp_path / "m.pt")
    found, options = open_checkpoint(tmp_path / "m.pt"), {"model": model}
    chosen = choose_architecture(found, "torchvision", options)
    drawn = torch.random.get_rng_state()
    built = build_model(found, chosen, options)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    x = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        assert torch.equal(built(x), saved(x))
    assert set(built.state_dict()) == set(saved.state_dict())


def test_timms_channels_are_read_from_the_first_filter(tmp_path, stand_in):
    saved = stand_in("timm", TIMM).Net(num_classes=1000, in_chans=1).eval()
    torch.save(saved.state_dict(), tmp_path / "m.pt")
    found = open_checkpoint(tmp_path / "m.pt")
    built = build_model(found, ARCHITECTURES["timm"], {"model": "small_net"})
    assert built(torch.zeros(1, 1, 4, 4)).shape == (1, 1000)


@pytest.mark.parametrize("classes", [0, 7])
def test_classes_that_a_network_has_only_if_it_is_asked_for_them(tmp_path, stand_in, classes):
    saved = stand_in("timm", TIMM).Headless(num_classes=classes).eval()
    torch.save(saved.state_dict(), tmp_path / "m.pt")
    found = open_checkpoint(tmp_path / "m.pt")
    built = build_model(found, ARCHITECTURES["timm"], {"model": "headless"})
    x = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        assert torch.equal(built(x), saved(x))
    assert built(x).shape == (2, classes or 6)


@pytest.mark.parametrize(("family", "text"), [("torchvision", TORCHVISION), ("timm", TIMM)])
def test_which_model_is_asked_for_and_unknown_ones_have_neighbours(stand_in, family, text):
    stand_in(family, text)
    asked = match_architecture(ARCHITECTURES[family], {"head.weight": (7, 6)})
    assert not asked.fits
    assert "which one is it" in asked.problem
    with pytest.raises(ArchitectureError, match="has no model 'smal_net'") as caught:
        ARCHITECTURES[family].build({}, model="smal_net")
    assert (caught.value.code, "small_net" in caught.value.hint) == ("bad_option", True)


@pytest.mark.parametrize("family", ["torchvision", "timm"])
@pytest.mark.parametrize(
    ("text", "words"), [("raise RuntimeError('operator nms does not exist')", "operator nms"), (None, "ModuleNotFound")]
)
def test_what_cannot_be_imported_is_named_with_the_reason(stand_in, monkeypatch, family, text, words):
    if text is None:
        monkeypatch.setattr(sys, "path", [])
        monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if "path" not in str(finder).lower()])
    else:
        with pytest.raises(RuntimeError):
            stand_in(family, text)
    match = match_architecture(ARCHITECTURES[family], {"head.weight": (7, 6)}, {"model": "small_net"})
    assert f"library {family}, which cannot be imported here" in match.problem
    assert words in match.problem
