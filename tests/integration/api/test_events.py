"""Server-sent events: followed, resumed, ended."""

import json
import signal
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from httpx_sse import EventSource

from app.client import Client
from tests.web_server import web_server

pytestmark = pytest.mark.integration

SPEC = {"model": {"example": "digits-mlp"}, "data": {"example": "digits"}, "schemes": ["int8"]}


def start(http):
    return http.post("/api/v1/runs", json=SPEC).json()["id"]


@contextmanager
def cancelled_soon(http, run_id):
    timer = threading.Timer(0.5, lambda: http.post(f"/api/v1/runs/{run_id}/cancel"))
    timer.start()
    yield
    timer.join()


def read(http, run_id, after=None, until=None):
    headers = {"Last-Event-ID": after} if after else {}
    with http.stream("GET", f"/api/v1/runs/{run_id}/events", headers=headers) as response:
        if response.status_code == 204:
            return None
        assert response.headers["content-type"].startswith("text/event-stream")
        found = []
        for event in EventSource(response).iter_sse():
            if event.data:
                found.append(event)
                if until and until(event):
                    break
        return found


def test_events_come_in_order_and_end_with_the_run(http):
    run_id = start(http)
    with cancelled_soon(http, run_id):
        events = read(http, run_id)
    states = [json.loads(event.data)["data"]["state"] for event in events if event.event == "state"]
    assert states == ["QUEUED", "CANCELLED"]
    assert [event.id for event in events] == sorted(event.id for event in events)


def test_a_reader_goes_on_from_the_last_event_it_saw(http):
    run_id = start(http)
    first = read(http, run_id, until=lambda event: True)[0]
    http.patch(f"/api/v1/runs/{run_id}", json={"note": "seen?"})
    http.post(f"/api/v1/runs/{run_id}/cancel")
    rest = read(http, run_id, after=first.id)
    assert [event.event for event in rest] == ["edit", "state"]
    assert read(http, run_id, after=rest[-1].id) is None


def test_an_id_that_is_none_is_refused(http):
    refused = http.get(f"/api/v1/runs/{start(http)}/events", headers={"Last-Event-ID": "x; DROP"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "bad_event_id")


def test_the_client_waits_through_the_end(server, http):
    run_id = start(http)
    seen = []
    with Client(server.url) as client, cancelled_soon(http, run_id):
        assert client.wait(run_id, progress=lambda run: seen.append(run.state), timeout_s=20).state == "CANCELLED"
    assert seen[0] == "QUEUED"
    assert seen[-1] == "CANCELLED"


def test_open_streams_do_not_hold_up_the_server_s_end(redis_url, tmp_path):
    with web_server(redis_url, tmp_path) as server, server.http() as http:
        run_id = start(http)
        opened = threading.Event()

        def follow():
            try:
                read(http, run_id, until=lambda event: opened.set())
            except httpx.TransportError:
                opened.set()

        readers = [threading.Thread(target=follow) for _ in range(5)]
        for reader in readers:
            reader.start()
        assert opened.wait(10)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(10)
        assert time.monotonic() - began < 4
        for reader in readers:
            reader.join(10)
