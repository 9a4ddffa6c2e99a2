"""OpenAPI's page at ``/api/docs``: Swagger UI from an installed package, so that it works without a network."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

DOCS_PATH = "/api/docs"
ASSETS_PATH = "/api/docs-assets"
OPENAPI_PATH = "/api/openapi.json"

# The start script is a file of its own: our pages run no inline script.
_START = f'SwaggerUIBundle({{url: "{OPENAPI_PATH}", dom_id: "#api", deepLinking: true, tryItOutEnabled: true}});'
_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Quant Lens API</title>
<link rel="icon" href="{ASSETS_PATH}/favicon.png">
<link rel="stylesheet" href="{ASSETS_PATH}/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="{ASSETS_PATH}/swagger-ui-bundle.js"></script>
<script src="{DOCS_PATH}/start.js"></script>
</body>
</html>
"""

router = APIRouter(include_in_schema=False)


@router.get(DOCS_PATH)
async def show_documentation() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE)


@router.get(f"{DOCS_PATH}/start.js")
async def start_documentation() -> Response:
    """What starts Swagger UI on it."""
    return Response(_START, media_type="text/javascript")


def documentation_assets() -> StaticFiles:
    """Swagger UI's script and style."""
    return StaticFiles(directory=str(resources.files("fastapi_offline") / "static"))
