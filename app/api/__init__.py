"""The REST interface, under ``/api/v1``: one file a resource, one shape of error."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry
from starlette.routing import Match

from app.api import capabilities, compare, documentation, events, files, hub, results, runs
from app.api.errors import ErrorAnswer, Refusal, install_error_handlers
from app.api.health import health_router
from app.api.uploads import Uploads, uploads_router

API = "/api/v1"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def install_api(app: FastAPI, uploads: Uploads, registry: CollectorRegistry) -> None:
    """All routes of the API, and behind them the answer to what is none. Call it before Dash takes every path."""
    install_error_handlers(app)
    bearer = HTTPBearer(auto_error=False, description="A token, where the server has QUANT_LENS_AUTH=token.")
    errors: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in ("4XX", 422, "5XX")}
    v1 = APIRouter(prefix=API, responses=errors, dependencies=[Depends(bearer)])
    for resource in (runs, results, events, files, hub, compare, capabilities):
        v1.include_router(resource.router)
    v1.include_router(health_router(registry))
    app.include_router(v1)
    app.include_router(uploads_router(uploads), responses=errors, dependencies=[Depends(bearer)])
    app.include_router(health_router(registry), include_in_schema=False)
    app.include_router(documentation.router)
    app.mount(documentation.ASSETS_PATH, documentation.documentation_assets())
    for rest in ("/api", "/api/{path:path}"):
        app.add_api_route(rest, _no_such_route, methods=_METHODS, include_in_schema=False)


async def _no_such_route(request: Request) -> None:
    path = request.url.path
    known = list(takewhile(lambda route: getattr(route, "endpoint", None) is not _no_such_route, request.app.routes))
    allowed = [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in known)
    ]
    if allowed:
        raise Refusal(
            "method_not_allowed",
            f"{request.method} is not for {path}",
            hint=f"use {' or '.join(allowed)}",
            headers={"Allow": ", ".join(allowed)},
        )
    raise Refusal("not_found", f"there is nothing at {path}", hint="see /api/docs")
