"""Server: who works here, within which walls, what waits, what is stored, and what this server understands."""

from app.pages.server.layout import register_server_page, server_layout
from app.routing import Page

PAGE = Page(
    name="server",
    path="/server",
    title="Server",
    layout=server_layout,
    register=register_server_page,
    nav="Server",
    order=40,
)
