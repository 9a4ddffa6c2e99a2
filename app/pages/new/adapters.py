"""A LoRA adapter beside the model: which uploaded files are some, and the field where one is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import dash_mantine_components as dmc
from dash import html

from worker.store import FileRecord


def adapter_options(files: Sequence[FileRecord], chosen: str) -> list[dict[str, str]]:
    """The uploaded files that are adapters, and the chosen one whether or not it is known."""
    found = {
        file.sha256: f"{file.filename} · {file.sha256[:8]}" for file in files if (file.inspection or {}).get("adapter")
    }
    if chosen:
        found.setdefault(chosen, chosen[:8])
    return [{"value": sha256, "label": label} for sha256, label in found.items()]


def adapter_field(chosen: str, files: Sequence[FileRecord]) -> html.Div:
    """Shown where an adapter is uploaded, or chosen."""
    options = adapter_options(files, chosen)
    field = dmc.Select(
        id="new-adapter",
        label="LoRA adapter that is merged into the weights",
        value=chosen or None,
        data=options,
        placeholder="none",
        clearable=True,
        w=360,
    )
    return html.Div(html.Div(field, className="ql-fields"), id="new-adapter-block", hidden=not options)
