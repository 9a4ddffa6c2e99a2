import pytest

from quant_lens_engine.schema import Capabilities, WorkerFacts
from tests.web_server import web_server

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_alive_and_measured(http, prefix):
    assert http.get(f"{prefix}/healthz").json()["status"] == "ok"
    http.get("/api/v1/runs/nosuch")
    text = http.get(f"{prefix}/metrics").text
    assert "quant_lens_store_up 1.0" in text
    assert 'quant_lens_queue_length{queue="runs"}' in text
    assert 'quant_lens_requests_total{method="GET",route="/api/v1/runs/{run_id}",status="404"}' in text
    assert "nosuch" not in text


def test_ready_once_a_worker_is_alive(server, http):
    waiting = http.get("/readyz")
    assert (waiting.status_code, waiting.json()["store"], waiting.json()["files"]) == (503, "ok", "ok")
    assert "worker" in waiting.json()["workers"]
    server.store.capabilities.write(Capabilities(engine_version="0.1.0"))
    server.store.capabilities.beat(WorkerFacts(id="w1"))
    assert http.get("/readyz").json() == {
        "status": "ok", "store": "ok", "files": "ok", "workers": "ok", "uploads": "ok",
    }  # fmt: skip
    server.store.capabilities.leave("w1")


def test_without_a_store_it_lives_and_says_what_is_wrong(tmp_path):
    with web_server("redis://127.0.0.1:1/0", tmp_path) as server, server.http() as http:
        assert http.get("/healthz").status_code == 200
        assert http.get("/readyz").json()["store"] == "does not answer"
        refused = http.get("/api/v1/runs")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        assert "quant_lens_store_up 0.0" in http.get("/metrics").text
