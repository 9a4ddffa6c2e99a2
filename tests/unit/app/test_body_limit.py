import asyncio

from app.api.errors import Refusal
from app.body_limit import BodyLimit


async def answer(chunks, headers=(), path="/api/v1/runs", swallows=False):
    sent, pending = [], list(chunks)

    async def reader(scope, receive, send):
        try:
            while (await receive()).get("more_body"):
                pass
        except Refusal:
            if not swallows:
                raise
            await send({"type": "http.response.start", "status": 500, "headers": []})
            return
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


def test_a_body_that_grows_over_the_limit_is_413():
    assert asyncio.run(answer([b"12345", b"123456"])) == 413


def test_an_answer_to_the_refusal_from_inside_is_held_back():
    assert asyncio.run(answer([b"12345", b"123456"], swallows=True)) == 413


def test_uploads_have_their_own_limit():
    assert asyncio.run(answer([b"x" * 100], path="/api/v1/uploads/0")) == 200
