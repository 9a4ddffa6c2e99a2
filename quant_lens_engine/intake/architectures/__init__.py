"""Architecture families: one file each, each registers itself; a team's plug-ins come in the same way.

A checkpoint holds names and shapes of tensors, no code. A family builds the module that such names and shapes belong
to, with widths and depth read from the shapes, so that one family serves every size of itself.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from quant_lens_engine.errors import ArchitectureError
from quant_lens_engine.registry import Registry, load_rooms

Shapes = Mapping[str, tuple[int, ...]]
Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

BUILT_IN = "built-in"


@dataclass(frozen=True)
class Source:
    """Who registered something: ``built-in``, or a plug-in's file name with the SHA-256 of the file."""

    name: str = BUILT_IN
    sha256: str | None = None


REGISTERING: ContextVar[Source] = ContextVar("registering", default=Source())  # noqa: B039  (frozen)
"""Who is registering right now; a plug-in's loader sets it."""


@dataclass(frozen=True)
class Architecture:
    """One family.

    Attributes:
        name: as in ``RunSpec.model.architecture``.
        build: ``(tensors, **options) -> nn.Module``.
        description: one line for people.
        source: who registered it.
        check: tries a model once its weights are in place; raises what is wrong with it.
        libraries: version of every library, beyond torch, whose code the network is.
    """

    name: str
    build: Callable[..., nn.Module]
    description: str = ""
    source: Source = Source()
    check: Callable[[nn.Module], None] | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword options of ``build`` with their defaults."""
        parameters = list(inspect.signature(self.build).parameters.values())[1:]
        return {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.default is not parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        }


ARCHITECTURES: Registry[Architecture] = Registry("architecture", ArchitectureError)


def architecture(name: str, *, description: str = "") -> Callable[[Builder], Builder]:
    """Register a family under ``name``.

    Args:
        name: what users choose it by; a duplicate is an error.
        description: one line; default: the first line of the builder's docstring.

    Returns:
        A decorator for ``build(tensors, **options) -> nn.Module``. ``tensors`` maps the names of the state dict to
        their shapes; widths and depth are read from them. For tensors of another family ``build`` gives its smallest
        or usual member, so that the difference can be shown key by key, or raises.

    Example:
        >>> @architecture("one-linear")
        ... def build(tensors, *, bias=True):
        ...     width_out, width_in = tensors.get("weight", (1, 1))
        ...     return nn.Linear(width_in, width_out, bias=bias)
        >>> ARCHITECTURES["one-linear"].options
        {'bias': True}
        >>> ARCHITECTURES.discard("one-linear")
    """

    def register(build: Builder) -> Builder:
        text = description or (inspect.getdoc(build) or "").partition("\n")[0]
        ARCHITECTURES.add(name, Architecture(name, build, text, REGISTERING.get()))
        return build

    return register


def size_of(tensors: Shapes, name: str, axis: int, default: int) -> int:
    """The size of ``tensors[name]`` along ``axis``; ``default`` where there is no such tensor or axis.

    Example:
        >>> size_of({"fc.weight": (10, 64)}, "fc.weight", 1, 32)
        64
    """
    shape = tensors.get(name, ())
    return shape[axis] if len(shape) > axis else default


load_rooms(sys.modules[__name__])
