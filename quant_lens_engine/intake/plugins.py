"""A team's plug-ins: every Python file of a folder is imported, and registers what it brings."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from quant_lens_engine.errors import QuantLensError, SpecError
from quant_lens_engine.intake.architectures import ARCHITECTURES, REGISTERING, Source
from quant_lens_engine.intake.datasets import EXAMPLE_DATA


@dataclass(frozen=True)
class PluginFile:
    """One file, and how loading it went.

    Attributes:
        name: the file's name.
        sha256: of its bytes; part of the fingerprint of whatever it supplies.
        architectures: the families that it registered.
        problem: why it is not used; None: it is.
    """

    name: str
    sha256: str
    architectures: tuple[str, ...] = ()
    problem: str | None = None


_LOADED: dict[Path, PluginFile] = {}


def load_plugins(folder: Path | None) -> list[PluginFile]:
    """Load every ``*.py`` of ``folder`` whose name does not begin with an underscore.

    A file is imported once and again when its bytes have changed; what another folder brought is forgotten, so that
    which architecture fits depends on this folder alone. None forgets all of it. A broken file is reported and leaves
    nothing behind; the others are used. Only who administers the server can put files there: they run with its rights.

    Raises:
        SpecError: ``no_plugins_folder``.
    """
    if folder is None:
        _keep_only([])
        return []
    if not folder.is_dir():
        raise SpecError(
            f"the plug-ins folder {folder.name!r} does not exist", hint="give a folder of Python files",
            code="no_plugins_folder",
        )  # fmt: skip
    files = sorted(path for path in folder.resolve().glob("*.py") if not path.name.startswith("_"))
    _keep_only(files)
    return [_load(path) for path in files]


@dataclass(frozen=True)
class SuppliedClass:
    """Something that a plug-in file defines, for a pickle that asks for it by name."""

    value: Any
    plugin: str
    sha256: str


def find_plugin_class(module: str, name: str) -> SuppliedClass | None:
    """What a loaded plug-in has under ``name``; None where none has it.

    A file called as the last part of ``module`` comes first (``nets.py`` for ``mylab.nets.Small``); otherwise any one
    that defines the name, which is how a class saved from a script (``__main__``) is found.
    """
    found = []
    for path, loaded in sorted(_LOADED.items()):
        value: Any = sys.modules.get(f"quant_lens_plugins.{path.stem}") if loaded.problem is None else None
        for part in name.split(".") if value is not None else ():
            value = vars(value).get(part) if isinstance(value, ModuleType | type) else None
        if getattr(value, "__module__", None) == f"quant_lens_plugins.{path.stem}":
            found.append((path.stem != module.rpartition(".")[2], SuppliedClass(value, loaded.name, loaded.sha256)))
    return min(found, key=lambda one: one[0])[1] if found else None


def _keep_only(files: Sequence[Path]) -> None:
    for gone in [path for path in _LOADED if path not in files]:
        _forget(_LOADED.pop(gone))


def _load(path: Path) -> PluginFile:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    known = _LOADED.get(path)
    if known is not None:
        if known.sha256 == sha256:
            return known
        _forget(known)
    source = Source(path.name, sha256)
    problem = _execute(path, content, source)
    loaded = PluginFile(path.name, sha256, _registered_by(source), problem)
    if problem is not None:
        _forget(loaded)
        loaded = PluginFile(path.name, sha256, problem=problem)
    _LOADED[path] = loaded
    return loaded


def _execute(path: Path, content: bytes, source: Source) -> str | None:
    """Run the very bytes that were hashed; what went wrong, as one line without a path."""
    module_name = f"quant_lens_plugins.{path.stem}"
    specification = importlib.util.spec_from_loader(module_name, loader=None, origin=path.name)
    if specification is None:
        return "it cannot be imported"
    module = importlib.util.module_from_spec(specification)
    module.__file__ = str(path)
    token = REGISTERING.set(source)
    sys.modules[module_name] = module
    try:
        exec(compile(content, path.name, "exec"), module.__dict__)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may call sys.exit: the engine must live on
        sys.modules.pop(module_name, None)
        message = error.message if isinstance(error, QuantLensError) else str(error)
        return f"{error.__class__.__name__}: {message}".replace(str(path.parent), "plug-ins")[:500]
    finally:
        REGISTERING.reset(token)
    return None


def _registered_by(source: Source) -> tuple[str, ...]:
    return tuple(name for name, found in ARCHITECTURES.items() if found.source == source)


def _forget(loaded: PluginFile) -> None:
    source = Source(loaded.name, loaded.sha256)
    for name in _registered_by(source):
        ARCHITECTURES.discard(name)
    for name in [name for name, found in EXAMPLE_DATA.items() if found.source == source]:
        EXAMPLE_DATA.discard(name)
