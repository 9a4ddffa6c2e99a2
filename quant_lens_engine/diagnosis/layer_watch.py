"""Looking at layers while a network runs: what they are given, and what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from quant_lens_engine.diagnosis.input_tally import InputTally


@dataclass(frozen=True)
class WatchedLayer:
    """A layer to look at.

    Attributes:
        name: of its module, in ``named_modules()``.
        quantized: whether the scheme rounds its weights or its input.
        as_rounded: what the rounding of its input sees of it (smoothing divides features first); None where the input
            stays in float.
        span: the static range of its input; None where there is none.
    """

    name: str
    quantized: bool = False
    as_rounded: Callable[[Tensor], Tensor] | None = None
    span: tuple[float, float] | None = None


@contextmanager
def watching(
    model: nn.Module, layers: Sequence[WatchedLayer], see: Callable[[str, Any, Any, Tensor], None]
) -> Iterator[None]:
    """Show each call of a layer: name, arguments, keyword arguments and the first tensor of its output."""

    def hook(name: str) -> Callable[..., None]:
        def shown(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            tensor = first_tensor(output)
            if tensor is not None:
                see(name, args, kwargs, tensor.detach())

        return shown

    handles = [
        model.get_submodule(layer.name).register_forward_hook(hook(layer.name), with_kwargs=True) for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def watching_inputs(
    model: nn.Module, layers: Sequence[WatchedLayer], tallies: Mapping[str, InputTally]
) -> Iterator[None]:
    """Show what rounded layers are given, before it is rounded."""

    def hook(layer: WatchedLayer) -> Callable[..., None]:
        def shown(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = first_tensor(args) if args else first_tensor(kwargs)
            if given is not None and given.is_floating_point() and layer.as_rounded is not None:
                tallies[layer.name].add(layer.as_rounded(given.detach()))

        return shown

    handles = [
        model.get_submodule(layer.name).register_forward_pre_hook(hook(layer), prepend=True, with_kwargs=True)
        for layer in layers
        if layer.name in tallies
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in a structure of tuples, lists and mappings; None where there is none."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return next((found for item in value if (found := first_tensor(item)) is not None), None)
    return None
