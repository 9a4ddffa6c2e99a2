"""Further checkpoints of one training: points that a landscape is laid through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.architectures import Architecture
from quant_lens_engine.intake.checkpoint import open_checkpoint
from quant_lens_engine.intake.formats import without_trust
from quant_lens_engine.intake.matching import build_model
from quant_lens_engine.schema import ModelSource


def read_trajectory(
    places: Sequence[tuple[Path, str]], architecture: Architecture, source: ModelSource
) -> dict[str, dict[str, Tensor]]:
    """The parameters of each checkpoint, by ``checkpoint 1``, ``checkpoint 2`` …, in the order given.

    Only parameters are taken: buffers (running statistics) stay those of the model that is measured.

    Args:
        places: each file, and its name for messages.
        architecture: of the model that is measured; every checkpoint must fit it.
        source: the model that is measured: its part of each checkpoint, and its architecture's options.

    Raises:
        CheckpointError: a file cannot be read; ``non_finite_weights``.
        ArchitectureError: ``architecture_mismatch``.
    """
    found = {}
    for number, (path, shown) in enumerate(places, start=1):
        try:
            checkpoint = open_checkpoint(path, shown, source.part)
        except CheckpointError as error:
            raise without_trust(error) from None
        checkpoint.check_finite()
        model = build_model(checkpoint, architecture, source.options)
        found[f"checkpoint {number}"] = {name: tensor.detach() for name, tensor in model.named_parameters()}
    return found
