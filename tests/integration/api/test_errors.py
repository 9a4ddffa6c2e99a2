"""One error shape, whatever goes wrong."""

import pytest

pytestmark = pytest.mark.integration


def body(response):
    error = response.json()["error"]
    assert set(error) == {"code", "message", "hint", "details"}
    return response.status_code, error["code"]


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1", "/api/v1/nope", "/api/v2/runs", "/api/v1/runs/a/nope"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_an_unknown_path_under_api_is_404_json(http, method, path):
    assert body(http.request(method, path)) == (404, "not_found")


def test_a_method_that_is_not_for_a_path_is_405_and_says_which_are(http):
    refused = http.put("/api/v1/runs")
    assert body(refused) == (405, "method_not_allowed")
    assert refused.headers["Allow"] == "GET, POST"
    assert body(http.post("/api/v1/capabilities")) == (405, "method_not_allowed")


def test_a_body_that_is_no_json_is_400(http):
    assert body(http.post("/api/v1/runs", content="{", headers={"Content-Type": "application/json"})) == (
        400,
        "bad_request",
    )


def test_a_file_hash_that_is_none_is_422(http):
    assert body(http.get("/api/v1/files/xyz")) == (422, "bad_request")
    assert body(http.get(f"/api/v1/files/{'0' * 64}")) == (404, "file_not_found")


def test_a_fault_of_ours_is_500_with_a_reference_and_no_more(server, http):
    run_id = http.post(
        "/api/v1/runs", json={"model": {"example": "m"}, "data": {"example": "d"}, "schemes": ["int8"]}
    ).json()["id"]
    server.store.client.hset(f"quant_lens:run:{run_id}", "spec", "{broken")
    refused = http.get(f"/api/v1/runs/{run_id}")
    assert body(refused) == (500, "internal_fault")
    reference = refused.json()["error"]["details"]["reference"]
    assert "Traceback" not in refused.text
    assert "broken" not in refused.text
    assert refused.headers["X-Content-Type-Options"] == "nosniff"
    assert f"fault {reference}" in server.log.read_text()
    server.store.client.delete(f"quant_lens:run:{run_id}")


def test_openapi_documents_every_route_and_its_page_needs_no_network(http):
    paths = http.get("/api/openapi.json").json()["paths"]
    for path in (
        "/api/v1/runs", "/api/v1/runs/{run_id}", "/api/v1/runs/{run_id}/result", "/api/v1/runs/{run_id}/events",
        "/api/v1/runs/{run_id}/cancel", "/api/v1/runs/{run_id}/retry", "/api/v1/runs/{run_id}/archive",
        "/api/v1/runs/{run_id}/export.json", "/api/v1/runs/{run_id}/export.csv", "/api/v1/runs/{run_id}/export.html",
        "/api/v1/compare", "/api/v1/capabilities", "/api/v1/files/{sha256}", "/api/v1/uploads",
        "/api/v1/uploads/{uuid}", "/api/v1/healthz", "/api/v1/readyz", "/api/v1/metrics",
    ):  # fmt: skip
        assert path in paths
    page = http.get("/api/docs").text
    assert "//" not in page.replace("<!doctype html>", "")
    for asset in ("docs-assets/swagger-ui-bundle.js", "docs-assets/swagger-ui.css", "docs/start.js"):
        assert http.get(f"/api/{asset}").status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/runs", "/_dash-update-component"])
def test_a_body_without_an_end_is_413(http, path):
    endless = (b'"' + b"x" * (1 << 20) for _ in range(64))
    refused = http.post(path, content=endless, headers={"Content-Type": "application/json"})
    assert body(refused) == (413, "too_large")


def test_openapi_says_the_one_error_shape_and_where_a_token_goes(http):
    openapi = http.get("/api/openapi.json").json()
    assert "HTTPValidationError" not in openapi["components"]["schemas"]
    for status in ("422", "4XX", "5XX"):
        schema = openapi["paths"]["/api/v1/runs"]["post"]["responses"][status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}
    assert openapi["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
