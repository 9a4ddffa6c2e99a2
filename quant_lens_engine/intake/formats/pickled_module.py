"""Whole pickled models, ``torch.save(model)``: the network itself, and code. Read only where the file is trusted.

The names in the pickle tell such a file from a state dict before anything of it is run. Where it is trusted, its
classes are looked for first (torch, torchvision, timm, transformers, plug-ins); then it is unpickled as torch does it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import FORMATS, SAVE_HINT, CheckpointFormat, running
from quant_lens_engine.intake.formats.layout import Contents, HeldTensor
from quant_lens_engine.intake.formats.pickle_program import Import, imports_of, is_of_a_network, is_plain_data, refusal
from quant_lens_engine.intake.formats.torch_legacy import is_legacy, read_programs
from quant_lens_engine.intake.formats.torch_storages import NESTED_NAMES
from quant_lens_engine.intake.formats.torch_zip import MAX_PICKLE_BYTES, PROGRAM, bytes_of
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.loaded_module import LoadedModule
from quant_lens_engine.intake.tree import ZipTree

_LEGACY_PROGRAMS = 5
_LARGEST_LOOK = 64
"""Networks that are listed of a training checkpoint."""


def _recognises(given: GivenFile) -> bool:
    try:
        return any(is_of_a_network(str(name)) for name in _imports(given))
    except CheckpointError:
        return False  # no sound pickle: the format of state dicts says so


def _imports(given: GivenFile) -> list[Import]:
    """Every name that the file's pickles would import."""
    program = _programs(given)
    if program is None:
        return []
    stream, count = program
    return [name for _ in range(count) for name in imports_of(stream)]


def _programs(given: GivenFile) -> tuple[io.BytesIO, int] | None:
    """The file's pickles, and how many they are; None where it has none, or none that could be of a network."""
    if is_legacy(given):
        stream, count = read_programs(given.path), _LEGACY_PROGRAMS
    elif isinstance(given.found, ZipTree):
        found = [member for name, member in given.found.members.items() if PurePosixPath(name).name == PROGRAM]
        if len(found) != 1 or not found[0].stored or found[0].size > MAX_PICKLE_BYTES:
            return None
        stream, count = io.BytesIO(bytes_of(given.path, found[0])), 1
    else:
        return None
    # most state dicts hold none of these words: nothing of theirs need be looked at twice
    return (stream, count) if _may_be_of_a_network(stream.getvalue()) else None


def _may_be_of_a_network(content: bytes) -> bool:
    return any(word in content for word in (b"torch.nn", b"torchvision", b"timm", b"transformers"))


def _refuse(given: GivenFile) -> Contents:
    raise refusal(sorted({str(name) for name in _imports(given) if not is_plain_data(str(name))}))


def _run(given: GivenFile) -> Contents:
    from quant_lens_engine.intake.pickled_classes import ClassFinder  # plug-ins know the formats

    finder = ClassFinder()
    finder.check(_imports(given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class whose source has changed since: its code is what is run
        loaded = _loaded(given, finder.as_pickle_module())
    path, module = _the_network(loaded)
    tensors = _tensors(module)
    network = LoadedModule(module.eval(), tuple(sorted(finder.plugins.items())), finder.libraries)
    said = ["A whole pickled model: it was run to read it, since this file was trusted.", network.sentence]
    if path:
        said.append(f"The network was found under {path!r}.")
    return Contents(tensors, path or None, tuple(said), network=network, ran=True)


def _loaded(given: GivenFile, pickle_module: Any) -> Any:
    hint = "its class may have changed since it was saved: use the versions of that time, or " + SAVE_HINT
    with running(given.path, "a pickled model", hint=hint, code="pickled_module_failed"):
        return torch.load(given.path, map_location="cpu", weights_only=False, pickle_module=pickle_module)


def _the_network(loaded: Any) -> tuple[str, nn.Module]:
    """The module, or the likeliest one in a training checkpoint, and its place there."""
    found = list(_networks(loaded, "", 0))
    if not found:
        raise CheckpointError(
            f"a pickled {type(loaded).__name__[:60]} that holds no nn.Module", hint=SAVE_HINT, code="no_tensors"
        )
    return min(found, key=lambda one: _likelihood(one[0]))


def _networks(value: Any, path: str, depth: int) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(value, nn.Module):
        inner = getattr(value, "_orig_mod", value)  # of torch.compile
        yield path, inner.module if isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel) else inner
    elif isinstance(value, Mapping) and depth < 3:
        for key, part in list(value.items())[:_LARGEST_LOOK]:
            if isinstance(key, str):
                yield from _networks(part, f"{path}.{key}" if path else key, depth + 1)


def _likelihood(path: str) -> int:
    first = path.partition(".")[0]
    return NESTED_NAMES.index(first) if first in NESTED_NAMES else len(NESTED_NAMES)


def _tensors(module: nn.Module) -> dict[str, HeldTensor]:
    state = module.state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor) or value.layout != torch.strided]
    quantized = [name for name, value in state.items() if isinstance(value, Tensor) and value.is_quantized]
    if odd or quantized:
        raise CheckpointError(
            f"it holds what is no plain weight: {', '.join([*quantized, *odd][:3])}",
            hint="bring the float model; quantized variants are made from it",
            code="unsupported_tensor",
        )
    return {name: HeldTensor.of(value) for name, value in state.items()}


FORMATS.add(
    "pickled-module",
    CheckpointFormat(
        _recognises, _refuse, (".pt", ".pth"), "a whole pickled nn.Module: a program, run only where it is trusted",
        run=_run,
    ),
)  # fmt: skip
