"""The New page's callbacks around what the network is measured for: the task, texts, an adapter."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State

from app.pages.new.adapters import adapter_options
from app.pages.new.choosing import data_of
from app.pages.new.tasks import suggested_task, task_options
from app.routing import Services, in_thread

SHOWN_FILES = 100


def register_tasks(app: Dash, services: Services) -> None:
    """Add them all to ``app``."""

    @app.callback(
        Output("new-task", "data"),
        Output("new-text-block", "hidden"),
        Output("new-adapter", "data"),
        Output("new-adapter-block", "hidden"),
        Input("new-found", "data"),
        State("new-task", "value"),
        State("new-adapter", "value"),
    )
    @in_thread
    def offer(found: dict[str, Any] | None, task: str | None, adapter: str | None) -> tuple[Any, ...]:
        """What the chosen files suggest, and what is asked of such files."""
        offered = services.store.capabilities.read().tasks
        data = data_of((found or {}).get("data"))
        adapters = adapter_options(services.store.files.list(kind="checkpoint")[:SHOWN_FILES], adapter or "")
        return (
            task_options(offered, suggested_task(found or {}), task or ""),
            data is None or data.x_dtype != "text",
            adapters,
            not adapters,
        )
