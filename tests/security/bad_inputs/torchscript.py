"""TorchScript archives whose ``__setstate__`` acts while they are loaded."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.security.bad_inputs import bad_file

State = tuple[str, Tensor, bool]


class Saved(nn.Module):
    """A module with a text, a weight and a mode."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.w = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self) -> State:
        return (self.text, self.w, self.training)


class Writes(Saved):
    """Writes a file."""

    @torch.jit.export
    def __setstate__(self, state: State) -> None:
        self.text, self.w, self.training = state[0], state[1], state[2]
        torch.ops.aten.save(torch.zeros(1), self.text)


class Loops(Saved):
    """Never ends."""

    @torch.jit.export
    def __setstate__(self, state: State) -> None:
        self.text, self.w, self.training = state[0], state[1], state[2]
        while True:
            self.w = self.w + 1


class Reads(Saved):
    """Maps a file of the machine."""

    @torch.jit.export
    def __setstate__(self, state: State) -> None:
        self.text, self.training = state[0], state[2]
        self.w = torch.from_file(self.text, False, 16, dtype=torch.uint8)


class Takes(Saved):
    """Asks for 16 GiB."""

    @torch.jit.export
    def __setstate__(self, state: State) -> None:
        self.text, self.training = state[0], state[2]
        self.w = torch.ones(1 << 32)


def _save(module: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(path)


@bad_file(5, "TorchScript that writes on load", "torchscript")
def writes(path: Path, canary: Path) -> None:
    _save(Writes(str(canary)), path)


@bad_file(6, "TorchScript that loops", "torchscript")
def loops(path: Path, canary: Path) -> None:
    _save(Loops(""), path)


@bad_file(7, "TorchScript that reads a file", "torchscript")
def reads(path: Path, canary: Path) -> None:
    _save(Reads("/etc/passwd"), path)


@bad_file(8, "TorchScript that asks for 16 GiB", "torchscript")
def takes(path: Path, canary: Path) -> None:
    _save(Takes(""), path)
