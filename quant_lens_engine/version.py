"""The engine's version, and the hash of its source: both are part of every stage's fingerprint."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

__version__ = "0.1.0"


@cache
def source_hash() -> str:
    """SHA-256 over every Python file of the engine that can change a number (charts and reports cannot).

    Example:
        >>> len(source_hash())
        64
    """
    root = Path(__file__).parent
    silent = {root / "cli.py", root / "report.py"}
    files = sorted(path for path in root.rglob("*.py") if path not in silent and "figures" not in path.parts)
    total = hashlib.sha256()
    for path in files:
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()
