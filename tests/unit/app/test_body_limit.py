import asyncio

import pytest

from app.api.errors import Refusal
from app.body_limit import BodyLimit


async def answer(chunks, headers=(), path="/api/v1/runs"):
    sent, pending = [], list(chunks)

    async def reader(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        body = pending.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(pending)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    await BodyLimit(reader, streamed="/api/v1/uploads", limit_bytes=10)(scope, receive, send)
    return sent[0]["status"]


def test_a_body_within_the_limit_passes():
    assert asyncio.run(answer([b"12345", b"12345"])) == 200


def test_a_body_announced_over_the_limit_is_413_unread():
    assert asyncio.run(answer([], headers=[(b"content-length", b"11")])) == 413


def test_a_body_that_grows_over_the_limit_is_refused():
    with pytest.raises(Refusal) as refused:
        asyncio.run(answer([b"12345", b"123456"]))
    assert refused.value.status_code == 413


def test_uploads_have_their_own_limit():
    assert asyncio.run(answer([b"x" * 100], path="/api/v1/uploads/0")) == 200
