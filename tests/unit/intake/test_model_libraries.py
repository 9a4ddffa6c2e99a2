"""The families torchvision and timm.

Neither library is on the machine that these tests were written on, so they run against stand-ins: small modules put on
sys.path, with the functions of the real API that we call (list_models, get_model, create_model). What the real
libraries build was not seen.
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
def list_models(module=None):
    return ["other", "small_net"]


def get_model(name, **config):
    assert config.pop("weights") is None and name == "small_net"
    return Net(**config)
"""

TIMM = """
def list_models(filter=""):
    return ["small_net", "small_net_large"]


def create_model(model_name, pretrained=False, **kwargs):
    assert not pretrained and model_name == "small_net"
    return Net(**kwargs)
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


def test_timms_channels_are_read_from_the_first_filter(tmp_path, stand_in):
    saved = stand_in("timm", TIMM).Net(num_classes=1000, in_chans=1).eval()
    torch.save(saved.state_dict(), tmp_path / "m.pt")
    found = open_checkpoint(tmp_path / "m.pt")
    built = build_model(found, ARCHITECTURES["timm"], {"model": "small_net"})
    assert built(torch.zeros(1, 1, 4, 4)).shape == (1, 1000)


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
