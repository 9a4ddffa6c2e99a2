"""Checkpoint formats: one file each, each registers itself.

No format here deserialises. A reader finds out where each tensor lies and checks that against the file's real size;
the tensors are then copied from the file. Code in a file has nothing that would run it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats.layout import Contents
from quant_lens_engine.registry import Registry, load_rooms

HEAD_BYTES = 512
"""How much of a file a format sees to recognise it: a tar's magic stands at byte 257."""

SAVE_HINT = (
    "save the weights alone: torch.save(model.state_dict(), 'model.pt'), "
    "or safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
)
"""What to do instead, in one line."""


@dataclass(frozen=True)
class CheckpointFormat:
    """One format.

    Attributes:
        recognises: ``(head, path) -> bool`` from the first bytes; the extension proves nothing.
        read: finds every tensor's place in the file, or raises CheckpointError.
        extensions: what such files are usually called.
        description: one line for people.
        refused: this format is recognised only to say why it is not read.
    """

    recognises: Callable[[bytes, Path], bool]
    read: Callable[[Path], Contents]
    extensions: tuple[str, ...] = ()
    description: str = ""
    refused: bool = False


FORMATS: Registry[CheckpointFormat] = Registry("format", CheckpointError)

load_rooms(sys.modules[__name__])


def recognise(path: Path) -> str | None:
    """The name of the format of the file at ``path``; None where none is recognised.

    Raises:
        CheckpointError: ``empty_file``.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise CheckpointError(
            "the file is empty", hint="upload it again; check that it was saved completely", code="empty_file"
        )
    return next((name for name, known in FORMATS.items() if known.recognises(head, path)), None)


def read_contents(path: Path, filename: str) -> tuple[str, Contents]:
    """Format and contents of a checkpoint.

    Args:
        path: the file.
        filename: what its owner calls it; messages say this and never the path.

    Raises:
        CheckpointError: ``not_a_checkpoint``, or what the format has against the file.
    """
    try:
        name = recognise(path)
        if name is not None:
            return name, FORMATS[name].read(path)
    except CheckpointError as error:
        error.message = f"{filename}: {error.message}"
        error.args = (error.message,)
        raise
    raise CheckpointError(
        f"{filename} is not a checkpoint: neither safetensors nor a file of torch.save",
        hint=SAVE_HINT,
        code="not_a_checkpoint",
    )
