"""A ``torch.export`` graph as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Reference:
    """The value of that name."""

    name: str


@dataclass(frozen=True)
class Device:
    """Wherever the exporting machine computed: the network decides anew."""


@dataclass(frozen=True)
class Operation:
    """One call.

    Attributes:
        name: of its node.
        target: the operator, as the file writes it: ``torch.ops.aten.conv2d.default``.
        arguments: by the names of the operator's schema.
        results: names of what it answers; a tuple of names where it answers with a list of tensors.
        scope: path of the module that called it; empty where the file does not say.
    """

    name: str
    target: str
    arguments: Mapping[str, Any]
    results: tuple[str | tuple[str, ...] | None, ...]
    scope: str = ""


@dataclass(frozen=True)
class Program:
    """One exported graph.

    Attributes:
        operations: in the order in which they run.
        tensors: the checkpoint's name of each tensor that the graph reads, by the graph's.
        parameters: which of the graph's are parameters.
        inputs: names of what the caller gives.
        constants: inputs that are constants.
        outputs: the one value of the answer that is measured.
        shapes: sizes of tensor values where the file says them; None for one that varies.
        dtypes: of tensor values, likewise.
        said: on other values of the answer; empty where there are none.
    """

    operations: tuple[Operation, ...]
    tensors: Mapping[str, str]
    parameters: frozenset[str]
    inputs: tuple[str, ...]
    constants: Mapping[str, Any]
    outputs: tuple[Any, ...]
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)
    said: str = ""


def names_made(results: Any) -> list[str]:
    """Names of the values that an operation, or a part of its results, answers with.

    Example:
        >>> names_made(("y", None, ("a", "b")))
        ['y', 'a', 'b']
    """
    if isinstance(results, str):
        return [results]
    return [] if results is None else [name for item in results for name in names_made(item)]


def names_read(argument: Any) -> list[str]:
    """Names of the values in an argument, or in a list of them.

    Example:
        >>> names_read([Reference("x"), 3, [Reference("w")]])
        ['x', 'w']
    """
    if isinstance(argument, Reference):
        return [argument.name]
    return [name for item in argument for name in names_read(item)] if isinstance(argument, list) else []
