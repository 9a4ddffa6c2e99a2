"""The models that ship with the engine, and the training that made them (``examples/train.py`` runs it)."""

from __future__ import annotations

from pathlib import Path

from quant_lens_engine.errors import SpecError

EXAMPLE_MODELS: dict[str, str] = {
    "digits-mlp": "a perceptron with two hidden layers",
    "digits-cnn": "a convolutional network with BatchNorm",
    "digits-transformer": "a transformer that reads a digit row by row",
}
"""Each example's name, which is its architecture's name too, and what it is."""


def example_path(name: str) -> Path:
    """The checkpoint of an example model.

    Raises:
        SpecError: ``unknown_example``.
    """
    if name not in EXAMPLE_MODELS:
        raise SpecError(
            f"unknown example model {name!r}", hint=f"known: {', '.join(EXAMPLE_MODELS)}", code="unknown_example"
        )
    return Path(__file__).parent / f"{name}.safetensors"
