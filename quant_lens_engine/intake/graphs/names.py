"""Names of a file's tensors and layers, where they become names of a module: fx writes them into the code it makes."""

from __future__ import annotations

import keyword
import re

_PATH = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_LONGEST = 300


def is_path(name: str) -> bool:
    """Whether ``name`` can be a dotted path of a module as it is: letters, digits, ``_``, and no word of Python.

    Example:
        >>> is_path("features.0.weight"), is_path('a"+exit()+"'), is_path("blocks.for.weight"), is_path("a..b")
        (True, False, False, False)
    """
    fits = len(name) <= _LONGEST and _PATH.fullmatch(name) is not None
    return fits and not any(keyword.iskeyword(part) for part in name.split("."))


def as_path(name: str) -> str:
    """A dotted path near ``name``: what cannot stand in one becomes ``_``; ``/`` and ``::`` separate.

    Example:
        >>> as_path("/blocks.0/up/MatMul"), as_path("onnx::MatMul_12"), as_path("a b.class")
        ('blocks.0.up.MatMul', 'onnx.MatMul_12', 'a_b.class_')
    """
    parts = re.split(r"[./]+|::", name[:_LONGEST])
    cleaned = [re.sub(r"[^A-Za-z0-9_]", "_", part) for part in parts if part]
    return ".".join(f"{part}_" if keyword.iskeyword(part) else part for part in cleaned) or "tensor"
