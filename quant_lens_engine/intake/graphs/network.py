"""A network that a file brings along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import fx, nn

from quant_lens_engine.intake.graphs.fixed_batch import check_rows_stand_alone, open_batch

Shapes = Mapping[str, tuple[int, ...]]


class BroughtNetwork(Protocol):
    """What a file brings instead of an architecture: a :class:`Network`, or a module that was loaded."""

    @property
    def buffers(self) -> Mapping[str, torch.dtype]:
        """Dtypes of the tensors that are no parameters, by their names."""

    @property
    def plugins(self) -> tuple[tuple[str, str], ...]:
        """Name and SHA-256 of every plug-in file that it needs."""

    @property
    def libraries(self) -> Mapping[str, str]:
        """Version of every library, beyond torch, whose code it is."""

    @property
    def sentence(self) -> str:
        """For the inspection."""

    def build(self, tensors: Shapes) -> nn.Module:
        """A module in ``eval()`` mode with the parameters and buffers that ``tensors`` names."""

    def check(self, module: nn.Module) -> None:
        """Try it with the weights in place."""


@dataclass(frozen=True)
class Network:
    """A graph that was read from a file, its operators known, its tensors elsewhere.

    Attributes:
        origin: what it is, in words.
        assemble: from names and shapes of tensors to a module that has them, and reads them.
        buffers: dtypes of the tensors that are no parameters, by their names.
        row: sizes of one row of the input, where the file says them; a size that varies is None.
        whole_numbers: whether the input is integers (tokens).
        fixed_batch: the only number of rows that the graph was made for; None: any.
        operators: how many operators it has.
        plugins: none: nothing but our own list of operators is needed.
        libraries: likewise.
    """

    origin: str
    assemble: Callable[[Shapes], fx.GraphModule]
    buffers: Mapping[str, torch.dtype] = field(default_factory=dict)
    row: tuple[int | None, ...] = ()
    whole_numbers: bool = False
    fixed_batch: int | None = None
    operators: int = 0
    plugins: tuple[tuple[str, str], ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)

    def build(self, tensors: Shapes) -> nn.Module:
        """A module in ``eval()`` mode with the parameters and buffers that ``tensors`` names; their values are not set.

        Layers of the graph are torch's own modules (``nn.Conv2d``, ``nn.Linear`` …) under the names of the network that
        was exported; everything else is a function. Any number of rows goes through.

        Raises:
            CheckpointError: ``fixed_batch`` where the graph holds its number of rows at a place that cannot be opened;
                ``bad_graph`` where it does not go together.
        """
        module = self.assemble(tensors)
        if self.fixed_batch is not None:
            open_batch(module, self.row, self.fixed_batch, whole_numbers=self.whole_numbers)
        return module.eval()

    def check(self, module: nn.Module) -> None:
        """Try what :meth:`build` changed, with the weights in place.

        Raises:
            CheckpointError: ``fixed_batch`` where an answer depends on other rows.
        """
        if self.fixed_batch is not None:
            check_rows_stand_alone(module, self.row, whole_numbers=self.whole_numbers)

    @property
    def sentence(self) -> str:
        """For the inspection."""
        text = (
            f"The file brings its own network ({self.origin}, {self.operators} operators): no architecture is needed."
        )
        if self.fixed_batch is not None:
            text += f" It was exported for a batch of {self.fixed_batch}; it is opened for any number of rows."
        return text
