"""From an address to a page. A page is a module of ``app.pages`` that declares a :class:`Page` named ``PAGE``.

Our own router, because Dash's keeps its pages in a global of the process, which two servers (or two tests) would share.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from dash import Dash, get_app
from dash.development.base_component import Component

import app.pages
from worker.settings import Settings
from worker.store import Store, User


@dataclass(frozen=True)
class Services:
    """What pages and callbacks may use."""

    store: Store
    settings: Settings


@dataclass(frozen=True)
class Visit:
    """One look at a page: who, with which parts of the path and of the query."""

    services: Services
    user: User
    params: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    search: str = ""

    def choice(self, key: str, known: Iterable[str]) -> str:
        """What the query says for ``key``, if it is one of the known values; else the first of them."""
        choices, said = list(known), self.query.get(key, "")
        return said if said in choices else choices[0]


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        name: short and stable; CSS and keyboard shortcuts know it.
        path: with names in braces, as in ``/runs/{run_id}``.
        title: of the browser's tab, while the layout does not set another.
        layout: draws the frame at once; slow things come by callbacks. May raise a QuantLensError.
        register: adds the page's callbacks.
        nav: the word in the top bar; None keeps it out.
        order: place in the top bar.
        section: the ``name`` of the page whose word in the top bar is marked.
        lasting: stores that stay when the page is left.
    """

    name: str
    path: str
    title: str
    layout: Callable[[Visit], Component]
    register: Callable[[Dash, Services], None] | None = None
    nav: str | None = None
    order: int = 50
    section: str = ""
    lasting: tuple[Component, ...] = ()

    def match(self, pathname: str) -> dict[str, str] | None:
        """The named parts of a path that is this page's; None where it is another's."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.path))
        found = re.fullmatch(pattern, pathname if pathname == "/" else pathname.rstrip("/"))
        return None if found is None else found.groupdict()


def find_pages() -> list[Page]:
    """Every page there is, in the order of the top bar."""
    modules = [
        importlib.import_module(f"{app.pages.__name__}.{module.name}")
        for module in pkgutil.iter_modules(app.pages.__path__)
    ]
    return sorted((module.PAGE for module in modules if hasattr(module, "PAGE")), key=lambda page: page.order)


def route(pages: Iterable[Page], pathname: str) -> tuple[Page, dict[str, str]] | None:
    """The page of a path and the named parts of it."""
    for page in pages:
        params = page.match(pathname)
        if params is not None:
            return page, params
    return None


def parse_query(search: str) -> dict[str, str]:
    """The query of an address, first value of each key.

    Example:
        >>> parse_query("?runs=a,b&baseline=a")
        {'runs': 'a,b', 'baseline': 'a'}
    """
    return {key: values[0] for key, values in parse_qs(search.lstrip("?")).items()}


def current_user() -> User:
    """Who makes the request that this callback answers, as the gate found them."""
    user = get_app().backend.request_adapter().context.user
    if not isinstance(user, User):
        raise RuntimeError("a request came past the gate without a user")
    return user


def in_thread(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """A callback as a coroutine that works in a thread: Dash runs plain functions on the server's event loop, where
    one slow answer of Redis would hold up every other page."""

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(function, *args, **kwargs)

    return run
