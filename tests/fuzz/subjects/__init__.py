"""What is fuzzed: one file a group of parsers, each registers its subjects."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Subject:
    """One reader.

    Attributes:
        seeds: honest inputs by what they are; each is read without a refusal.
        read: reads the file at a path, or refuses it.
        refusals: the errors that say so.
        kind: of its inputs, where their first bytes do not say it: ``protobuf``, ``text``.
    """

    seeds: Callable[[], Mapping[str, bytes]]
    read: Callable[[Path], object]
    refusals: tuple[type[Exception], ...]
    kind: str = ""


SUBJECTS: dict[str, Subject] = {}


def add(name: str, subject: Subject) -> None:
    """Register a subject; a second one of its name is a mistake."""
    assert name not in SUBJECTS
    SUBJECTS[name] = subject


for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_found.name}")
