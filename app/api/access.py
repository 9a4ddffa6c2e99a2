"""What every route may ask for: the store, the settings, and the user who calls."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.auth import user_of
from worker.settings import Settings
from worker.store import Store, User


def _store(request: Request) -> Store:
    store = request.app.state.store
    assert isinstance(store, Store)
    return store


def _settings(request: Request) -> Settings:
    settings = request.app.state.settings
    assert isinstance(settings, Settings)
    return settings


StoreOf = Annotated[Store, Depends(_store)]
"""The server's store."""
SettingsOf = Annotated[Settings, Depends(_settings)]
"""The server's settings."""
ForUser = Annotated[User, Depends(user_of)]
"""Who calls."""
