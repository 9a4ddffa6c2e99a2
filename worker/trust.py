"""Code that is not the engine's own: plug-ins, and files that are code (TorchScript, pickled modules), where these may
be run here: the setting, and walls to run them in."""

from __future__ import annotations

from typing import Any

from worker.sandbox import survey
from worker.settings import Settings

ALL_OF = ("limits", "seccomp")
ONE_OF = ("landlock", "namespaces")
"""Either keeps a process from the files of others; together with :data:`ALL_OF` nothing of the table gets through."""


def foreign_code(settings: Settings) -> dict[str, Any]:
    """What every request to an engine process says of it: ``plugins``, their folder, and ``trusted``."""
    folder = None if settings.plugins is None else str(settings.plugins.absolute())
    return {"plugins": folder, "trusted": runs_code(settings)}


def runs_code(settings: Settings) -> bool:
    """Whether an engine process may run a checkpoint that is code."""
    return settings.trusted_formats and problem(settings) is None


def problem(settings: Settings) -> str | None:
    """Why the setting has no effect here, in a sentence; None where it is off, or the walls stand."""
    if not settings.trusted_formats:
        return None
    found = survey(settings)
    lacking = [f"{name} ({found.missing[name]})" for name in ALL_OF if name not in found.standing]
    if not any(name in found.standing for name in ONE_OF):
        lacking.append(" or ".join(f"{name} ({found.missing[name]})" for name in ONE_OF))
    return (
        f"trusted formats are refused all the same, because the sandbox lacks {'; '.join(lacking)}" if lacking else None
    )
