"""TorchScript archives: code that torch runs when it loads them. Read only where the file is trusted.

What is measured is not the script. Its ``forward`` is frozen in ``eval()`` mode, which inlines it and leaves branches
on settings behind; the operators that remain are looked up in the list that ``.pt2`` graphs are held to, and put
together anew from torch's own layers under the script's names. A script module as it is could not be measured:
torch cannot call one as a function of its parameters, which derivatives need. https://docs.pytorch.org/docs/stable/jit
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import torch

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import FORMATS, NETWORK_HINT, TRUST_HINT, CheckpointFormat, running
from quant_lens_engine.intake.formats.layout import Contents, HeldTensor
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.graphs.refusals import EXPORT_HINT
from quant_lens_engine.intake.graphs.script_network import script_network
from quant_lens_engine.intake.tree import ZipTree


def _recognises(given: GivenFile) -> bool:
    """By its names alone, whatever else is the matter with it."""
    if not isinstance(given.found, ZipTree):
        return False
    names = [PurePosixPath(name) for name in given.found.members]
    return any("code" in name.parts[:-1] or name.name == "constants.pkl" for name in names)


def _refuse(given: GivenFile) -> Contents:  # noqa: ARG001  (one signature for all formats)
    raise CheckpointError(
        "a TorchScript archive: opening it can run code; it was not opened",
        hint=f"{NETWORK_HINT}. {TRUST_HINT}",
        code="torchscript",
    )


def _run(given: GivenFile) -> Contents:
    network, tensors, notes = script_network(_loaded(given.path))
    held = {name: HeldTensor.of(value) for name, value in tensors.items()}
    said = "A TorchScript archive: it was run to read it, since this file was trusted."
    return Contents(held, notes=(said, network.sentence, *notes), network=network, ran=True)


def _loaded(path: Path) -> Any:
    with running(path, "a TorchScript archive", hint=EXPORT_HINT, code="torchscript_failed"):
        return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]


FORMATS.add(
    "torchscript",
    CheckpointFormat(
        _recognises, _refuse, (".pt", ".pth", ".ts"), "TorchScript: a program, run only where it is trusted", run=_run
    ),
)
