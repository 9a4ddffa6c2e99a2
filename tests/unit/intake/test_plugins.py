"""Plug-ins: what a folder brings, and that a broken file hurts nobody else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from quant_lens_engine.errors import SpecError
from quant_lens_engine.intake import ARCHITECTURES, EXAMPLE_DATA, load_plugins

GOOD = """
from torch import nn
from quant_lens_engine import architecture

@architecture("team-net")
def build(tensors, *, width=3):
    "A team's network."
    return nn.Linear(width, 2)
"""


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    for path in tmp_path.iterdir():
        path.unlink()
    load_plugins(tmp_path)  # forgets what is gone
    assert "team-net" not in ARCHITECTURES


def test_a_plugin_registers_under_its_name_and_hash(folder):
    (folder / "team.py").write_text(GOOD)
    (loaded,) = load_plugins(folder)
    assert loaded.architectures == ("team-net",)
    assert loaded.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    found = ARCHITECTURES["team-net"]
    assert (found.source.name, found.source.sha256) == ("team.py", loaded.sha256)
    assert (found.description, found.options) == ("A team's network.", {"width": 3})


def test_loading_again_is_harmless_and_a_changed_file_is_loaded_anew(folder):
    (folder / "team.py").write_text(GOOD)
    assert load_plugins(folder) == load_plugins(folder)
    (folder / "team.py").write_text(GOOD.replace("width=3", "width=8"))
    load_plugins(folder)
    assert ARCHITECTURES["team-net"].options == {"width": 8}


def test_a_file_that_is_gone_is_forgotten(folder):
    (folder / "team.py").write_text(GOOD)
    load_plugins(folder)
    (folder / "team.py").unlink()
    assert load_plugins(folder) == []
    assert "team-net" not in ARCHITECTURES


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def broken(:", "SyntaxError"),
        ("import a_module_that_nobody_has", "ModuleNotFoundError"),
        ("import sys; sys.exit(3)", "SystemExit"),
        (GOOD + "\n1 / 0", "ZeroDivisionError"),
        (GOOD.replace("team-net", "digits-mlp"), "two registrations"),
    ],
)
def test_a_broken_file_is_reported_and_leaves_nothing_behind(folder, code, words):
    before = dict(ARCHITECTURES)
    (folder / "bad.py").write_text(code)
    (folder / "good.py").write_text(GOOD.replace("team-net", "team-other"))
    bad, good = load_plugins(folder)
    assert words in bad.problem
    assert str(folder) not in bad.problem
    assert good.problem is None
    assert dict(ARCHITECTURES) == before | {"team-other": ARCHITECTURES["team-other"]}


def test_what_begins_with_an_underscore_is_not_loaded(folder):
    (folder / "_private.py").write_text("1 / 0")
    (folder / "notes.txt").write_text("1 / 0")
    assert load_plugins(folder) == []


def test_a_plugin_may_bring_data(folder):
    (folder / "data.py").write_text("""
import numpy as np
from quant_lens_engine.intake import Arrays, dataset

@dataset("team-rows")
def rows():
    "Two rows."
    return Arrays(np.zeros((2, 3)), np.arange(2))
""")
    load_plugins(folder)
    assert EXAMPLE_DATA["team-rows"].load().x.shape == (2, 3)
    (folder / "data.py").unlink()
    load_plugins(folder)
    assert "team-rows" not in EXAMPLE_DATA


def test_another_folder_replaces_the_first(folder, tmp_path_factory):
    """The same file in two folders, one after the other, as two analyses in one process have it."""
    other = tmp_path_factory.mktemp("other")
    for place in (folder, other):
        (place / "team.py").write_text(GOOD)
    (folder / "more.py").write_text(GOOD.replace("team-net", "team-more"))
    load_plugins(folder)
    (loaded,) = load_plugins(other)
    assert loaded.problem is None
    assert "team-net" in ARCHITECTURES
    assert "team-more" not in ARCHITECTURES
    load_plugins(None)
    assert "team-net" not in ARCHITECTURES


def test_no_folder():
    assert load_plugins(None) == []
    with pytest.raises(SpecError) as caught:
        load_plugins(Path("/nowhere/plug-ins"))
    assert caught.value.code == "no_plugins_folder"


def test_the_example_plugin_builds_every_depth_and_width():
    import torch

    (loaded,) = load_plugins(Path(__file__).parents[3] / "examples" / "plugins")
    assert loaded.architectures == ("cifar-resnet",)
    family = ARCHITECTURES["cifar-resnet"]
    twenty = family.build({})
    assert sum(parameter.numel() for parameter in twenty.parameters()) == 269_722  # He et al., table 6: 0.27 M
    wide = family.build(
        {f"layer1.{block}.x": () for block in range(5)}
        | {"layer2.0.conv1.weight": (48,), "layer3.0.conv1.weight": (96,)}
    )
    assert len(wide.layer3) == 5
    assert wide(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
