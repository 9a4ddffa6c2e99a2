"""``create_app()``: the web server. FastAPI with the REST interface, uploads and events, and Dash for the pages.

A web process never has torch in memory and never reads what is in an upload: it talks to the store and the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from app.api import install_api
from app.api.documentation import OPENAPI_PATH
from app.api.uploads import PATH as UPLOADS_PATH
from app.api.uploads import RelativeLocation, Uploads, sweep_uploads
from app.auth.exposure import refuse_open_server
from app.auth.gate import Gate
from app.auth.identity import Sessions
from app.auth.sign_in import sign_in_router
from app.body_limit import BodyLimit
from app.dashboard import create_dashboard
from app.measurements import RequestMeasurements, StoreMeasurements
from quant_lens_engine.version import __version__
from worker.settings import Settings, get_settings
from worker.store import open_store

_DESCRIPTION = """What quantization does to a network before you ship it.

Upload a checkpoint and data (tus 1.0 at `/uploads`), start a run with `POST /runs`, follow `/runs/{id}/events`, read
`/runs/{id}/result`. With `QUANT_LENS_AUTH=token` send `Authorization: Bearer TOKEN`. Every error has one shape:
`{"error": {"code", "message", "hint", "details"}}`. The Python client is `app.client.Client`."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The whole web server as an ASGI application.

    Args:
        settings: this process' own where they are not given.

    Raises:
        SettingsError: ``open_without_sign_in``: others could reach a server that asks nobody who they are.
    """
    settings = settings or get_settings()
    refuse_open_server(settings)
    store = open_store(settings)
    uploads = Uploads(store, settings)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(StoreMeasurements(store))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(sweep_uploads(uploads))
        yield
        sweeping.cancel()

    app = FastAPI(
        title="Quant Lens",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=OPENAPI_PATH,
        lifespan=lifespan,
    )
    app.state.store, app.state.settings, app.state.uploads = store, settings, uploads
    sessions = Sessions(settings.session_key())
    install_api(app, uploads, registry)
    if settings.auth == "token":
        app.include_router(sign_in_router(store, sessions))
    dash = create_dashboard(app, store, settings)

    def script_hashes() -> Iterable[str]:
        return (f"'{text}'" if not text.startswith("'") else text for text in dash.csp_hashes())

    # The last one added is the outermost: nothing runs before the gate.
    app.add_middleware(RelativeLocation)
    app.add_middleware(BodyLimit, streamed=UPLOADS_PATH)
    app.add_middleware(RequestMeasurements, registry=registry)
    app.add_middleware(Gate, store=store, settings=settings, sessions=sessions, script_hashes=script_hashes)
    return app
