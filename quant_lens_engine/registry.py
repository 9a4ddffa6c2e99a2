"""One kind of registry for everything that registers itself: schemes, formats, architectures, figures …"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Generic, TypeVar

from quant_lens_engine.errors import InputError, InternalFault

T = TypeVar("T")


class Registry(Generic[T], Mapping[str, T]):
    """Names to implementations. A duplicate name is an error, an unknown one says what there is.

    Example:
        >>> shapes = Registry[int]("shape")
        >>> shapes.add("square", 4)
        4
        >>> shapes["square"], list(shapes)
        (4, ['square'])
    """

    def __init__(self, kind: str, error: type[InputError] = InputError) -> None:
        self.kind = kind
        self._error = error
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register ``entry`` under ``name``.

        Raises:
            InternalFault: the name is taken.
        """
        if name in self._entries:
            raise InternalFault(f"two registrations of the {self.kind} {name!r}", code="duplicate_registration")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """:meth:`add` as a decorator."""

        def decorate(entry: T) -> T:
            return self.add(name, entry)

        return decorate

    def discard(self, name: str) -> None:
        """Forget ``name`` if it is there (a plug-in that is loaded again)."""
        self._entries.pop(name, None)

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            known = ", ".join(sorted(self._entries)) or "none"
            raise self._error(
                f"unknown {self.kind} {name!r}", hint=f"known: {known}", code=f"unknown_{self.kind.replace(' ', '_')}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def load_rooms(package: ModuleType) -> None:
    """Import every module of ``package``, so that each file in it can register itself."""
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
