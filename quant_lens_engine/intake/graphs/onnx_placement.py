"""What becomes of an ONNX file's tensors: parameters and buffers of the module, or constants of its graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import fx

from quant_lens_engine.intake.graphs.assembly import Assembly
from quant_lens_engine.intake.graphs.names import as_path
from quant_lens_engine.intake.graphs.onnx_tensors import Initializer

_MADE_BY_EXPORTERS = re.compile(
    r"(val|onnx|const\w*|_?to_copy|lifted\w*|scalar\w*|init\w*|\w*Constant\w*|tensor|\d+)([_.:/].*|\d*)", re.IGNORECASE
)
"""Names that exporters give to constants; parameters keep theirs."""


@dataclass(frozen=True)
class Stored:
    """A floating-point tensor of the file, or the transpose of a matrix; not yet a value of the graph."""

    name: str
    turned: bool = False


@dataclass
class Placement:
    """What became of the file's tensors.

    Attributes:
        tensors: name in the module → (name in the file, whether its axes are turned).
        buffers: those that are no parameters.
        ties: names that are one tensor with another name.
        shapes: by name in the module.
    """

    tensors: dict[str, tuple[str, bool]] = field(default_factory=dict)
    buffers: dict[str, torch.dtype] = field(default_factory=dict)
    ties: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


class FileTensors:
    """Gives a file's tensors their names in the module, each once.

    Attributes:
        placement: what became of them so far.
    """

    def __init__(self, initializers: Mapping[str, Initializer], placement: Placement, assembly: Assembly) -> None:
        self.placement = placement
        self._initializers, self._assembly = initializers, assembly
        self._places: dict[tuple[str, bool], str] = {}
        self._constants: dict[str, fx.Node] = {}

    def shape(self, value: Stored) -> tuple[int, ...]:
        """Sizes of a tensor of the file."""
        found = self._initializers[value.name].shape
        return found[::-1] if value.turned else found

    def place(self, path: str, roles: Mapping[str, Stored | None], buffers: tuple[str, ...] = ()) -> bool:
        """Give the tensors of a layer their names in the module: ``path.role``; False where one has another already."""
        wanted = {f"{path}.{role}": stored for role, stored in roles.items() if stored is not None}
        for name, stored in wanted.items():
            if self.placement.tensors.get(name, (stored.name, stored.turned)) != (stored.name, stored.turned):
                return False
            if (stored.name, not stored.turned) in self._places and len(self.shape(stored)) == 2:
                return False
        for name, stored in wanted.items():
            self._put(name, stored, buffer=name.rpartition(".")[2] in buffers)
        return True

    def read(self, stored: Stored) -> fx.Node:
        """A tensor of the file that no layer has: a parameter under its own name, or a constant."""
        found = self._initializers[stored.name]
        known = next(
            (name for (file, turned), name in self._places.items() if file == stored.name and not turned), None
        )
        if known is not None:
            return self._assembly.tensor(known)
        turned = self._places.get((stored.name, True))
        if turned is not None:
            return self._assembly.method("t", self._assembly.tensor(turned))
        if not self._is_parameter(found):
            if stored.name not in self._constants:
                self._constants[stored.name] = self._assembly.constant(torch.from_numpy(np.array(found.array())))
            return self._constants[stored.name]
        name = as_path(stored.name)
        while name in self.placement.tensors:
            name += "_"
        self._put(name, Stored(stored.name), buffer=False)
        return self._assembly.tensor(name)

    def _put(self, name: str, stored: Stored, *, buffer: bool) -> None:
        first = self._places.setdefault((stored.name, stored.turned), name)
        self.placement.shapes[name] = self.shape(stored)
        self.placement.tensors[name] = (stored.name, stored.turned)
        if buffer:
            self.placement.buffers[name] = torch.float32
        # exporters store equal vectors once (zeros of fresh shifts and statistics): only matrices are tied on purpose
        if first != name and not buffer and len(self.shape(stored)) > 1:
            self.placement.ties[name] = first

    @staticmethod
    def _is_parameter(found: Initializer) -> bool:
        several = len(found.shape) > 0 and int(np.prod(found.shape)) > 1
        return several and found.place is not None and _MADE_BY_EXPORTERS.fullmatch(found.name) is None
