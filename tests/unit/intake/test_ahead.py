"""What is done ahead is there: each step names what the library has."""

import sys

import pytest

from quant_lens_engine.intake import ahead

pytest.importorskip("transformers")


def test_every_step_does_something():
    for step in ahead.steps():
        step()
    assert set(ahead._MODULES) <= set(sys.modules)
    mapping = sys.modules["transformers.conversion_mapping"]
    assert callable(mapping.get_checkpoint_conversion_mapping)


def test_without_the_library_there_is_nothing_to_do(monkeypatch):
    monkeypatch.setattr(ahead, "_LIBRARY", "a_library_that_is_not_there")
    assert list(ahead.steps()) == []


def test_a_step_that_fails_says_nothing(monkeypatch):
    monkeypatch.setattr(ahead, "_MODULES", ("transformers.not_there",))
    for step in ahead.steps():
        step()
