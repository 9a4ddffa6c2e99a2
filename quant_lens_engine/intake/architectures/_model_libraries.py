"""What torchvision and timm have in common as families: a model by its name, sized by the checkpoint's tensors."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from torch import nn

from quant_lens_engine.errors import ArchitectureError
from quant_lens_engine.intake.architectures import Shapes
from quant_lens_engine.intake.empty_model import built_empty
from quant_lens_engine.intake.optional_library import import_optional

_NEAR = 6


def import_library(name: str) -> ModuleType:
    """The library, imported when it is first asked for.

    Raises:
        ArchitectureError: ``library_missing``, with what importing it said.
    """
    return import_optional(
        name,
        hint=f"an administrator can install a {name} that goes with this torch; a plug-in or a torch.export archive "
        "(.pt2) needs none",
        needed_for=f"the architecture {name}",
        error=ArchitectureError,
    )


def named_model(library: str, model: str | None, names: list[str]) -> str:
    """``model``, if the library has it.

    Raises:
        ArchitectureError: ``missing_option``, ``bad_option`` with the nearest names.
    """
    if model is None:
        raise ArchitectureError(
            f"{library} has {len(names)} models: which one is it?",
            hint=f'the architecture {library!r} with the options {{"model": "{names[0] if names else "…"}"}}',
            code="missing_option",
        )
    if model not in names:
        near = difflib.get_close_matches(model, names, n=_NEAR) or names[:_NEAR]
        raise ArchitectureError(
            f"{library} has no model {model!r}", hint=f"such as {', '.join(near)}", code="bad_option"
        )
    return model


def sized(make: Callable[[Mapping[str, Any]], nn.Module], tensors: Shapes, sizes: Mapping[str, str]) -> nn.Module:
    """The model with as many classes (and channels) as the tensors have.

    It is made once without memory to see which tensors differ, and again with their sizes. Classes are read from the
    last matrix, or from the last one that is too many, for some networks have no classes unless they are asked for;
    channels from the first filter.

    Args:
        make: from keyword arguments to the model.
        tensors: names and shapes of the checkpoint.
        sizes: the keyword for ``classes``, and for ``channels`` where the library has one.
    """
    empty = built_empty(lambda: make({}))
    usual = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    found: dict[str, Any] = {}
    heads = [name for name, shape in usual.items() if _is_matrix(shape)]
    filters = [name for name, shape in usual.items() if len(shape) == 4]
    for keyword, names, axis in ((sizes.get("classes"), heads[-1:], 0), (sizes.get("channels"), filters[:1], 1)):
        for name in names if keyword else ():
            shape = tensors.get(name, usual[name])
            if len(shape) == len(usual[name]) and shape[axis] != usual[name][axis]:
                found[str(keyword)] = shape[axis]
    surplus = [shape for name, shape in tensors.items() if name not in usual and _is_matrix(shape)]
    if surplus and "classes" in sizes and sizes["classes"] not in found:
        found[sizes["classes"]] = surplus[-1][0]
    return make(found)


def _is_matrix(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or shape[2:] == (1, 1)
