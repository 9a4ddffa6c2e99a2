"""Who can reach a server that asks nobody who they are."""

from __future__ import annotations

from app.auth.origin import is_loopback
from worker.settings import Settings, SettingsError


def refuse_open_server(settings: Settings) -> None:
    """Without sign-in a server stays on its own machine.

    Raises:
        SettingsError: ``open_without_sign_in``.
    """
    if settings.auth == "none" and not settings.allow_open and not is_loopback(settings.host):
        raise SettingsError(
            f"without sign-in the server does not listen on {settings.host}: anyone there could do everything",
            code="open_without_sign_in",
            hint="set QUANT_LENS_AUTH=token, or QUANT_LENS_ALLOW_OPEN=1 if something else keeps strangers out",
        )
