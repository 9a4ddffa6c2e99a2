"""The sign-in page: a token is pasted once and becomes a session cookie."""

from __future__ import annotations

from html import escape
from string import Template
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.auth.identity import SESSION_AGE_S, SESSION_COOKIE, Sessions
from app.theme import token_sheet
from worker.store import Store

_STYLE = """
body { min-height: 100vh; display: grid; place-items: center; }
main { min-height: 0; width: min(24rem, calc(100vw - 2rem)); padding: 28px; background: var(--surface);
  border: 1px solid var(--border); border-radius: 8px; }
.brand { font-size: 18px; margin-bottom: 10px; }
p { color: var(--second); margin-bottom: 16px; }
label { display: block; font-weight: 600; margin-bottom: 4px; }
input { width: 100%; padding: 7px 10px; border: 1px solid var(--strong); border-radius: 6px; background: var(--surface);
  color: inherit; font: 400 12px/20px var(--mono); }
button { margin-top: 14px; width: 100%; padding: 7px; border: 0; border-radius: 6px; background: var(--button);
  color: #fff; font: 600 13px/20px var(--font); cursor: pointer; }
[role=alert] { color: var(--collapsed); margin: 8px 0 0; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · Quant Lens</title>
<link rel="icon" href="/assets/favicon.svg">
<script src="/assets/first_paint.js"></script>
<style>$tokens</style>
<link rel="stylesheet" href="/assets/base.css">
<style>$style</style>
</head>
<body>
<main>
<h1 class="brand"><span class="brand-mark"></span>Quant Lens</h1>
<p>Paste your token once; this browser then stays signed in for two weeks. An administrator makes a token with
<code>quant-lens token create NAME</code>.</p>
<form method="post" action="/login">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" maxlength="1000" required autofocus>
<input name="next" type="hidden" value="$next">
$problem
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
    goal = escape(_own_path(next_path), quote=True)
    return Template(_PAGE).substitute(tokens=token_sheet(), style=_STYLE, next=goal, problem=shown)


def _own_path(path: str) -> str:
    """``path`` if it leads to a page of ours, else the front page: a link must not send people elsewhere."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if inside else "/"
