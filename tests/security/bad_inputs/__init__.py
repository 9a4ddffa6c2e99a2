"""The list of bad inputs, by number: each makes its file anew, as an attacker or an accident would."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BadFile:
    """One bad file.

    Attributes:
        number: on the list.
        title: what it is.
        filename: what its sender calls it.
        codes: of the answers that are right.
        make: ``(path, canary)``: writes the file; code in it would write ``canary``.
    """

    number: int
    title: str
    filename: str
    codes: tuple[str, ...]
    make: Callable[[Path, Path], None]


BAD_FILES: dict[int, BadFile] = {}


def bad_file(number: int, title: str, *codes: str, filename: str = "model.pt"):
    """Register the maker of a file; a second one under a number is a mistake."""

    def register(make: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        assert number not in BAD_FILES
        BAD_FILES[number] = BadFile(number, title, filename, codes, make)
        return make

    return register


for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_found.name}")
