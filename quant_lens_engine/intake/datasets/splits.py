"""Which part of a divided data set is measured, and which one calibrates."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

EVALUATED = ("validation", "valid", "val", "dev", "eval", "test", "testing")
"""The likeliest first: a test split is often published without labels."""
TRAINING = ("train", "training")


def is_divided(names: Collection[str]) -> bool:
    """Whether these names are all names of splits.

    Example:
        >>> is_divided(["train", "val"]), is_divided(["cat", "val"])
        (True, False)
    """
    return bool(names) and all(name.lower() in EVALUATED + TRAINING for name in names)


def choose_split(names: Collection[str]) -> tuple[str, str | None, str]:
    """The split to measure on, the one that calibrates (None: none), and the sentence that says so.

    Example:
        >>> choose_split(["test", "train", "val"])
        ('val', 'train', "Rows are measured on the split 'val'; 'train' calibrates; not read: 'test'.")
    """
    ordered = sorted(names, key=lambda name: (EVALUATED + TRAINING).index(name.lower()))
    evaluated = ordered[0]
    training = next((name for name in ordered[1:] if name.lower() in TRAINING), None)
    parts = [f"Rows are measured on the split {evaluated!r}"]
    if training is not None:
        parts.append(f"{training!r} calibrates")
    if unread := [repr(name) for name in ordered[1:] if name != training]:
        parts.append(f"not read: {', '.join(unread)}")
    return evaluated, training, "; ".join(parts) + "."


def split_members(names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Files to measure on, files that calibrate, and what is to be said.

    A file belongs to a split by the folder that it lies in or by how its name begins (``train-00000-of-00002``).

    Example:
        >>> split_members(["data/test-0.parquet", "data/train-0.parquet"])[:2]
        (['data/test-0.parquet'], ['data/train-0.parquet'])
    """
    parts: dict[str, list[str]] = {}
    for name in sorted(names):
        parts.setdefault(_split_of(name), []).append(name)
    whole = parts.pop("", [])
    if not parts:
        return whole, [], []
    evaluated, training, note = choose_split(list(parts))
    notes = [note] + ([f"Not read, of no split: {', '.join(whole[:5])}."] if whole else [])
    return parts[evaluated], parts[training] if training is not None else [], notes


def _split_of(name: str) -> str:
    *folders, last = name.split("/")
    candidates = [re.split(r"[-._]", last)[0], *reversed(folders)]
    return next((part for part in candidates if is_divided([part])), "")
