"""The web server as a process: uvicorn on the application, and its address once it really answers."""

from __future__ import annotations

import socket
import sys

import uvicorn

from app.main import create_app
from worker.settings import Settings, SettingsError, get_settings

SHUTDOWN_S = 2
"""Open websockets and event streams are cut after this; `quant-lens up` has 5 s for everything."""


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            sys.stderr.write(f"Quant Lens answers at {address(self.config.host, self.config.port)}\n")
            sys.stderr.flush()


def address(host: str, port: int) -> str:
    """The address that a browser opens.

    Example:
        >>> address("0.0.0.0", 8050), address("::1", 80)
        ('http://127.0.0.1:8050', 'http://[::1]:80')
    """
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"


def serve(settings: Settings | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        SettingsError: ``port_taken``, or ``open_without_sign_in``.
    """
    settings = settings or get_settings()
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level.lower() if settings.log_level != "INFO" else "warning",
        access_log=settings.log_level == "DEBUG",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    with _listening(settings) as listener:
        _Server(config).run(sockets=[listener])


def _listening(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(
            f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}",
            hint="end what uses it, or set QUANT_LENS_PORT",
            code="port_taken",
        ) from None
