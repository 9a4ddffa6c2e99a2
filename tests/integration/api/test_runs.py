"""Runs over REST, without a worker: what the API promises before anything has been computed."""

import csv
import io
import json
import re

import pytest

pytestmark = pytest.mark.integration

SPEC = {"name": "first", "model": {"example": "digits-mlp"}, "data": {"example": "digits"}, "schemes": ["int8", "int4"]}


def start(http, **changes):
    response = http.post("/api/v1/runs", json=SPEC | changes)
    assert response.status_code == 201, response.text
    return response.json()


def error(response):
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint", "details"}
    return response.status_code, body["error"]["code"]


def test_a_run_is_created_queued_and_can_be_read(server, http):
    response = http.post("/api/v1/runs", json=SPEC)
    record = response.json()
    assert (response.status_code, record["state"], record["owner"]) == (201, "QUEUED", "local")
    assert http.get(response.headers["Location"]).json()["id"] == record["id"]
    assert server.store.capabilities.queue_lengths()["runs"] >= 1
    assert {stage["stage"] for stage in record["progress"]["stages"]} >= {"inspect", "evaluate", "curvature", "line"}


def test_the_result_is_there_from_the_start_with_nulls(http):
    result = http.get(f"/api/v1/runs/{start(http)['id']}/result")
    assert result.status_code == 200
    assert [variant["name"] for variant in result.json()["variants"]] == ["FP32", "int8", "int4"]
    assert result.json()["variants"][1]["evaluation"] is None
    json.loads(result.text, parse_constant=lambda name: pytest.fail(f"JSON holds {name}"))


@pytest.mark.parametrize(
    ("change", "code", "place"),
    [
        ({"schemes": ["int9"]}, "unknown_scheme", None),
        ({"schemes": ["nonsense"]}, "unknown_scheme", None),
        ({"schemes": []}, "bad_spec", "schemes"),
        ({"schemes": ["int8", "int8"]}, "bad_spec", "schemes"),
        ({"model": {}}, "bad_spec", "model"),
        ({"model": {"file": "0" * 64}}, "unknown_file", None),
        ({"model": {"path": "/etc/passwd"}}, "path_not_allowed", None),
        ({"data": {"example": "digits", "limit": 0}}, "bad_spec", "data.limit"),
        ({"surprise": 1}, "bad_spec", "surprise"),
        ({"name": "n" * 201}, "bad_spec", "name"),
    ],
)
def test_a_bad_specification_is_422_and_says_where(http, change, code, place):
    refused = http.post("/api/v1/runs", json=SPEC | change)
    assert error(refused) == (422, code)
    if place:
        assert place in [problem["at"] for problem in refused.json()["error"]["details"]["problems"]]


RECIPES = [
    ("int4+gtpq", "unknown_algorithm", "did you mean gptq?"),
    ("int4+gptq:actorder=true", "bad_option", "did you mean act_order?"),
    ("int4+gptq:damping=7", "bad_option", "usual values"),
    ("int4+smoothquant", "not_defined", "w8a8"),
    ("int4+gptq+adaround", "clashing_algorithms", "name one of them"),
    ("int4+skip", "unknown_scheme", "+skip:first:head"),
]


def test_a_recipe_that_the_engine_would_refuse_is_refused_at_once(http, say_algorithms):
    assert start(http, schemes=["int4+gtpq"])["state"] == "QUEUED"  # what only the engine knows is let through
    say_algorithms()
    for recipe, code, hint in RECIPES:
        refused = http.post("/api/v1/runs", json=SPEC | {"schemes": ["int8", recipe]})
        assert error(refused) == (422, code)
        assert hint in refused.json()["error"]["hint"] + refused.json()["error"]["message"]
    assert http.get("/api/v1/capabilities").json()["algorithms"][0]["option_facts"]
    good = ["w8a8+smoothquant:alpha=0.7+gptq", "int4+skip:first:kind.Embedding"]
    assert start(http, schemes=good)["spec"]["schemes"] == good
    assert start(http, schemes=["int3+gptq:block=128:damping=0.1"])["spec"]["schemes"] == ["int3+gptq:damping=0.1"]
    refused = http.post("/api/v1/runs", json=SPEC | {"schemes": ["int3+gptq", "int3+gptq:block=1.28e2"]})
    assert error(refused) == (422, "same_recipe")


def test_openapi_says_that_a_scheme_may_be_a_recipe(http):
    schema = http.get("/api/openapi.json").json()["components"]["schemas"]["RunSpec"]["properties"]["schemes"]
    assert "w8a8+smoothquant" in json.dumps(schema)


def test_pages_lead_through_all_runs_without_repeating_one(http):
    ids = {start(http, name=f"page {n}")["id"] for n in range(5)}
    seen, cursor = [], None
    while True:
        query = {"limit": 2, "q": "page", **({"cursor": cursor} if cursor else {})}
        page = http.get("/api/v1/runs", params=query).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 5
    assert set(seen) == ids


@pytest.mark.parametrize("query", [{"q": "((("}, {"q": "state:sleeping"}, {"sort": "colour"}, {"cursor": "???"}])
def test_a_query_that_is_not_understood_is_400(http, query):
    assert error(http.get("/api/v1/runs", params=query)) == (400, "bad_query")


@pytest.mark.parametrize("query", [{"state": "SLEEPING"}, {"limit": 0}, {"limit": "many"}])
def test_a_query_of_the_wrong_kind_is_422(http, query):
    assert error(http.get("/api/v1/runs", params=query)) == (422, "bad_request")


def test_edit_cancel_retry_archive_delete(http):
    run_id = start(http)["id"]
    edited = http.patch(f"/api/v1/runs/{run_id}", json={"name": "<b>new</b>", "tags": ["prod"], "note": "why"}).json()
    assert (edited["name"], edited["tags"], edited["note"]) == ("<b>new</b>", ["prod"], "why")
    assert http.get("/api/v1/runs", params={"tag": "prod"}).json()["total"] == 1
    assert error(http.delete(f"/api/v1/runs/{run_id}")) == (409, "conflict")
    assert error(http.post(f"/api/v1/runs/{run_id}/retry")) == (409, "conflict")
    assert http.post(f"/api/v1/runs/{run_id}/cancel").json()["state"] == "CANCELLED"
    again = http.post(f"/api/v1/runs/{run_id}/retry")
    assert (again.status_code, again.json()["retry_of"]) == (201, run_id)
    assert again.headers["Location"] == f"/api/v1/runs/{again.json()['id']}"
    assert http.post(f"/api/v1/runs/{run_id}/archive").json()["archived"] is True
    assert run_id not in [item["id"] for item in http.get("/api/v1/runs", params={"limit": 500}).json()["items"]]
    assert http.patch(f"/api/v1/runs/{run_id}", json={"archived": False}).json()["archived"] is False
    assert http.delete(f"/api/v1/runs/{run_id}").status_code == 204
    assert error(http.get(f"/api/v1/runs/{run_id}")) == (404, "not_found")


@pytest.mark.parametrize("edit", [{"name": "n" * 201}, {"note": "n" * 10_001}, {"tags": ["t"] * 21}, {"state": "DONE"}])
def test_an_edit_past_the_limits_is_422(http, edit):
    assert error(http.patch(f"/api/v1/runs/{start(http)['id']}", json=edit))[0] == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/result"), ("GET", "/events"), ("POST", "/cancel"),
        ("POST", "/retry"), ("POST", "/archive"), ("GET", "/export.json"), ("GET", "/export.csv"),
        ("GET", "/export.html"),
    ],
)  # fmt: skip
def test_a_run_that_is_none_is_404_everywhere(http, method, path):
    body = {"json": {}} if method == "PATCH" else {}
    assert error(http.request(method, f"/api/v1/runs/nosuchrun{path}", **body)) == (404, "not_found")


def test_exports_are_downloads_that_hold_the_result(http):
    run_id = start(http, name='a "name"; with/odd\nparts')["id"]
    as_json = http.get(f"/api/v1/runs/{run_id}/export.json")
    assert as_json.json() == http.get(f"/api/v1/runs/{run_id}/result").json()
    name = f"quant-lens-a-name-with-odd-parts-{run_id}.json"
    assert as_json.headers["content-disposition"] == f'attachment; filename="{name}"'
    rows = list(csv.DictReader(io.StringIO(http.get(f"/api/v1/runs/{run_id}/export.csv").text)))
    assert [row["variant"] for row in rows] == ["FP32", "int8", "int4"]
    page = http.get(f"/api/v1/runs/{run_id}/export.html")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-disposition"].startswith("attachment")
    assert not re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?(?:https?:)?//""", page.text)


def test_compare_answers_with_deltas_and_differences(http):
    first, second = start(http)["id"], start(http, seed=1)["id"]
    comparison = http.get("/api/v1/compare", params={"runs": f"{first},{second}", "baseline": second}).json()
    assert comparison["baseline"] == second
    assert [run["id"] for run in comparison["runs"]] == [second, first]
    assert [item["setting"] for item in comparison["settings"]] == ["seed"]
    assert error(http.get("/api/v1/compare", params={"runs": first, "baseline": second})) == (400, "bad_comparison")
    assert error(http.get("/api/v1/compare", params={"runs": f"{first},nosuch"})) == (404, "not_found")
    assert error(http.get("/api/v1/compare")) == (422, "bad_request")
