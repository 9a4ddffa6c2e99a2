"""The sign-in page: a token is pasted once and becomes a session cookie."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.auth.identity import SESSION_AGE_S, SESSION_COOKIE, Sessions
from worker.store import Store

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · Quant Lens</title>
<style>
:root {{ color-scheme: light dark; --ink: #16181d; --quiet: #5c6370; --line: #d9dce3; --page: #f5f6f8; --card: #fff;
  --accent: #4b45c6; --bad: #a3122f; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8eaef; --quiet: #a0a7b4; --line: #3a3f4a; --page: #111318;
  --card: #1a1d24; --accent: #a5a1ff; --bad: #ff8fa0; }} }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--page); color: var(--ink);
  font: 14px/1.5 Inter, system-ui, sans-serif; }}
main {{ width: min(24rem, calc(100vw - 4rem)); padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }}
h1 {{ margin: 0 0 .25rem; font-size: 20px; }}
p {{ margin: .25rem 0 1rem; color: var(--quiet); }}
code {{ font: 12px/1.4 ui-monospace, monospace; }}
label {{ display: block; font-weight: 600; margin-bottom: .25rem; }}
input {{ width: 100%; box-sizing: border-box; padding: .5rem .625rem; border: 1px solid var(--line); border-radius: 6px;
  background: transparent; color: inherit; font: inherit; }}
button {{ margin-top: 1rem; width: 100%; padding: .5rem; border: 0; border-radius: 6px; background: var(--accent);
  color: var(--card); font: inherit; font-weight: 600; cursor: pointer; }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px; }}
[role=alert] {{ color: var(--bad); }}
</style>
</head>
<body>
<main>
<h1>Quant Lens</h1>
<p>Paste your token once; this browser then stays signed in for two weeks. An administrator makes a token with
<code>quant-lens token create NAME</code>.</p>
<form method="post" action="/login">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<input name="next" type="hidden" value="{next}">
{problem}
<button type="submit">Sign in</button>
</form>
</main>
</body>
</html>
"""


def sign_in_router(store: Store, sessions: Sessions) -> APIRouter:
    """``/login`` and ``/logout``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    async def show_sign_in(next: str = "/") -> HTMLResponse:
        return HTMLResponse(_page(next))

    @router.post("/login")
    async def sign_in(
        request: Request, token: Annotated[str, Form(max_length=1000)], next: Annotated[str, Form()] = "/"
    ) -> Response:
        user = await run_in_threadpool(store.users.authenticate, token.strip())
        if user is None:
            return HTMLResponse(_page(next, "This token is not known here, or has been revoked."), status_code=401)
        response = RedirectResponse(_own_path(next), status_code=303)
        response.set_cookie(
            SESSION_COOKIE,
            sessions.issue(token.strip()),
            max_age=SESSION_AGE_S,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return response

    @router.post("/logout")
    async def sign_out() -> RedirectResponse:
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
        return response

    return router


def _page(next_path: str, problem: str = "") -> str:
    shown = f'<p role="alert">{escape(problem)}</p>' if problem else ""
    return _PAGE.format(next=escape(_own_path(next_path), quote=True), problem=shown)


def _own_path(path: str) -> str:
    """``path`` if it leads to a page of ours, else the front page: a link must not send people elsewhere."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if inside else "/"
