"""What another site's page can make a browser send, and what ours tell a browser."""

import pytest

from tests.web_server import TUS

pytestmark = pytest.mark.integration

SPEC = {"model": {"example": "digits-mlp"}, "data": {"example": "digits"}, "schemes": ["int8"]}
FOREIGN = [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/runs"), ("DELETE", "/api/v1/runs/x"), ("POST", "/api/v1/uploads"),
        ("PATCH", f"/api/v1/uploads/{'0' * 32}"), ("POST", "/_dash-update-component"), ("POST", "/login"),
    ],
)  # fmt: skip
def test_a_foreign_page_changes_nothing(lone, team, method, path, headers):
    for http in (lone.http(), team.alice):
        refused = http.request(method, path, headers={**TUS, **headers})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_origin")


def test_our_own_page_does(lone):
    with lone.http() as http:
        started = http.post("/api/v1/runs", json=SPEC, headers={"Origin": lone.url, "Sec-Fetch-Site": "same-origin"})
        assert started.status_code == 201


def test_a_name_that_was_made_to_resolve_here_is_not_answered(lone):
    with lone.http() as http:
        for path in ("/", "/api/v1/runs", "/assets/x.css"):
            refused = http.get(path, headers={"Host": "evil.example"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "unknown_host")


@pytest.mark.parametrize("path", ["/", "/api/v1/runs", "/api/v1/nope", "/healthz", "/api/docs", "/_dash-layout"])
def test_every_answer_has_the_security_headers(lone, path):
    with lone.http() as http:
        headers = http.get(path, headers={"Origin": "http://evil.example"}).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["frame-ancestors"] == "'none'"
    assert policy["object-src"] == "'none'"
    assert "unsafe" not in policy["script-src"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_the_policy_allows_every_script_of_the_page(lone):
    """A script that the policy forbids would leave the page empty."""
    import base64
    import hashlib
    import re

    with lone.http() as http:
        page = http.get("/")
    policy = page.headers["content-security-policy"]
    inline = re.findall(r"<script(?![^>]*(?:src=|application/json))[^>]*>(.*?)</script>", page.text, re.S)
    assert inline
    for script in inline:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=[\"'](?:https?:)?//", page.text)


def test_markup_in_names_stays_text(lone):
    nasty = "<script>alert(1)</script>"
    with lone.http() as http:
        run = http.post("/api/v1/runs", json=SPEC | {"name": nasty}).json()
        http.patch(f"/api/v1/runs/{run['id']}", json={"note": nasty, "tags": [nasty]})
        answer = http.get(f"/api/v1/runs/{run['id']}")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["note"] == nasty
        assert nasty not in http.get(f"/api/v1/runs/{run['id']}/export.html").text
        assert nasty not in http.get(f"/runs/{run['id']}").text
