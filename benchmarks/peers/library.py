"""The libraries that are compared; each adapter is one file that registers itself."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Iterator

from benchmarks.peers.answer import Answer
from benchmarks.peers.workloads import Workload
from quant_lens_engine.registry import Registry

QUADRATURES = (
    (1, 20), (1, 40), (2, 20), (1, 80), (2, 40), (4, 20), (2, 80), (4, 40), (8, 20), (8, 40), (16, 20), (16, 40),
)  # fmt: skip
"""Runs and steps of a density, in the order of their cost."""


TraceMethod = Callable[[Workload, int], Iterator[Answer]]
"""Takes a workload and a seed."""


class Library:
    """A library of curvature. Each part yields answers of growing effort, for the caller to stop at the first that
    is good enough.

    Attributes:
        name: as it is installed.
        ours: whether it is this project.
    """

    name = ""
    ours = False

    @property
    def version(self) -> str:
        """Of the installed distribution."""
        return importlib.metadata.version(self.name)

    def lacks(self, part: str) -> bool:
        """Whether the library does not have that part."""
        return getattr(type(self), part) is getattr(Library, part)

    def largest(self, workload: Workload, count: int, seed: int) -> Iterator[Answer]:
        """The largest eigenvalues, descending."""
        raise NotImplementedError

    def smallest(self, workload: Workload, count: int, seed: int) -> Iterator[Answer]:
        """The smallest eigenvalues, ascending."""
        raise NotImplementedError

    def traces(self) -> dict[str, TraceMethod]:
        """The trace with its standard error, by each method that the library has."""
        return {}

    def density(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """Nodes and weights of the spectral density."""
        raise NotImplementedError

    def layer_traces(self, workload: Workload, products: int, seed: int) -> Answer:
        """The trace of each layer's block, by layer, from so many products."""
        raise NotImplementedError


LIBRARIES: Registry[Library] = Registry("library")


def load() -> tuple[list[Library], dict[str, str]]:
    """Every adapter's library that imports, ours first, and why other ones do not; ours has to."""
    from benchmarks.peers import adapters

    missing = {}
    for module in pkgutil.iter_modules(adapters.__path__):
        try:
            importlib.import_module(f"{adapters.__name__}.{module.name}")
        except ImportError as error:
            if "quant_lens" in module.name:
                raise
            missing[module.name] = str(error)
    return sorted(LIBRARIES.values(), key=lambda library: not library.ours), missing
