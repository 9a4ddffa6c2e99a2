"""Where the names that a pickled module asks for come from: torch, the model libraries, the team's plug-ins.

This is no wall. torch itself has names that run whatever they are given; who trusts a file trusts its code, and the
sandbox is what holds it. The list keeps honest files honest: a class that is missing is named before anything is run.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats.pickle_program import Import, is_plain_data
from quant_lens_engine.intake.graphs.refusals import EXPORT_CALL
from quant_lens_engine.intake.plugins import find_plugin_class

LIBRARIES = ("torchvision", "timm", "transformers")
"""Besides torch: what a class of a network may be part of, where it can be imported."""

_ROOTS = ("torch", *LIBRARIES, "numpy", "collections", "quant_lens_engine")
_SINGLE = frozenset({
    "functools.partial", "copyreg._reconstructor", "builtins.object", "builtins.slice", "builtins.frozenset",
    "builtins.tuple", "builtins.complex", "builtins.bytearray",
})  # fmt: skip
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""How protocol 2, torch's, writes what Python 3 calls otherwise."""
_HINT = (
    "put its file into the plug-ins folder (QUANT_LENS_PLUGINS; on the command line --plugins): a class is found there "
    f"by its name. Or bring the network without its class: {EXPORT_CALL}"
)


@dataclass
class ClassFinder:
    """Finds the classes of one file, and remembers whose they were.

    Attributes:
        plugins: name and SHA-256 of the plug-in files that supplied any.
        libraries: version of the libraries that did.
    """

    plugins: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)

    def find(self, module: str, name: str) -> Any:
        """What a pickle means by ``name`` of ``module``.

        Raises:
            CheckpointError: ``missing_class``.
        """
        module = _RENAMED.get(module, module)
        wanted = Import(module, name)
        root = module.partition(".")[0]
        if root not in _ROOTS and not is_plain_data(str(wanted)) and str(wanted) not in _SINGLE:
            supplied = find_plugin_class(module, name)
            if supplied is None:
                raise missing_class([str(wanted)])
            self.plugins[supplied.plugin] = supplied.sha256
            return supplied.value
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except Exception as error:  # a library that is not there, too new, or built for another torch
            raise missing_class([str(wanted)], f"{error.__class__.__name__}: {str(error)[:120]}") from None
        if root in LIBRARIES:
            self.libraries[root] = importlib.metadata.version(root)
        return found

    def check(self, wanted: Iterable[Import]) -> None:
        """Find every one, before anything is run.

        Raises:
            CheckpointError: ``missing_class``, naming all that are missing.
        """
        missing = []
        for one in dict.fromkeys(wanted):
            try:
                self.find(one.module, one.name)
            except CheckpointError:
                missing.append(str(one))
        if missing:
            raise missing_class(missing)

    def as_pickle_module(self) -> Any:
        """What ``torch.load(pickle_module=…)`` takes: the standard pickle, with names found here."""
        find: Callable[[str, str], Any] = self.find

        class Unpickler(pickle.Unpickler):
            def find_class(self, module: str, name: str, /) -> Any:
                return find(module, name)

        def load(file: Any, **options: Any) -> Any:
            return Unpickler(file, **options).load()

        return SimpleNamespace(Unpickler=Unpickler, load=load, __name__="pickle")


def missing_class(names: list[str], reason: str = "") -> CheckpointError:
    """The error of a pickled module whose class is not here."""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return CheckpointError(
        f"a pickled module needs {shown}, which is neither torch's nor in a library or plug-in of this server"
        + (f" ({reason})" if reason else ""),
        hint=_HINT,
        code="missing_class",
        details={"classes": names[:50]},
    )
