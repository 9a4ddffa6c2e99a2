"""Nothing is open without a token but the sign-in page and the health checks; Dash's own routes included."""

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.web_server import TUS

pytestmark = pytest.mark.integration

SPEC = {"model": {"example": "digits-mlp"}, "data": {"example": "digits"}, "schemes": ["int8"]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/runs"), ("POST", "/api/v1/runs"), ("GET", "/api/v1/capabilities"), ("GET", "/api/v1/metrics"),
        ("GET", "/metrics"), ("GET", "/api/docs"), ("GET", "/api/openapi.json"), ("GET", "/api/v1/nope"),
        ("GET", "/_dash-layout"), ("GET", "/_dash-dependencies"), ("POST", "/_dash-update-component"),
        ("GET", "/_dash-component-suites/dash/dcc/dash_core_components.js"), ("POST", "/api/v1/uploads"),
        ("HEAD", f"/api/v1/uploads/{'0' * 32}"), ("GET", "/api/v1/runs/x/events"),
    ],
)  # fmt: skip
def test_programs_are_told_401(team, method, path):
    for headers in ({}, {"Authorization": "Bearer ql_wrong"}, {"Authorization": "Basic eDp5"}, {"Cookie": "a=b"}):
        response = team.nobody.request(method, path, headers={**TUS, **headers})
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        if method != "HEAD":
            assert response.json()["error"]["code"] == "unauthenticated"


@pytest.mark.parametrize("path", ["/", "/new", "/runs/abc?tab=data", "/compare?runs=a,b"])
def test_people_are_led_to_the_sign_in_page_and_back(team, path):
    led = team.nobody.get(path)
    assert led.status_code == 303
    page = team.nobody.get(led.headers["location"])
    assert page.status_code == 200
    with team.server.http(follow_redirects=False) as browser:
        signed = browser.post("/login", data={"token": team.alice_token, "next": path})
        assert (signed.status_code, signed.headers["location"]) == (303, path)
        cookie = signed.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert team.alice_token.lower() not in cookie
        assert browser.get("/").status_code == 200
        assert browser.get("/api/v1/runs").status_code == 200
        assert browser.post("/logout").status_code == 303
        assert browser.get("/api/v1/runs").status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/api/v1/healthz", "/login"])
def test_only_these_are_open(team, path):
    assert team.nobody.get(path).status_code in {200, 503}


def test_a_wrong_token_gives_no_session(team):
    refused = team.nobody.post("/login", data={"token": "ql_wrong"})
    assert refused.status_code == 401
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize("goal", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_the_way_back_never_leads_elsewhere(team, goal):
    with team.server.http() as browser:
        assert browser.post("/login", data={"token": team.alice_token, "next": goal}).headers["location"] == "/"
    assert "evil.example" not in team.nobody.get("/login", params={"next": goal}).text


def test_the_way_back_is_escaped(team):
    page = team.nobody.get("/login", params={"next": '/"><script>alert(1)</script>'}).text
    assert "<script>" not in page


def test_a_forged_or_foreign_cookie_is_none(team, lone):
    with team.server.http() as browser:
        browser.post("/login", data={"token": team.alice_token})
        good = browser.cookies["quant_lens_session"]
    # Not the last character: two of its bits stand for nothing, so that another one may be the same signature.
    forged = good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1]
    for cookie in (forged, good.partition(".")[0], "", "null"):
        with team.server.http(cookies={"quant_lens_session": cookie}) as browser:
            assert browser.get("/api/v1/runs").status_code == 401


def test_a_revoked_token_ends_its_sessions_even_when_the_name_comes_back(team):
    users = team.server.store.users
    token = users.create_token("carol")
    with team.server.http() as browser:
        browser.post("/login", data={"token": token})
        assert browser.get("/api/v1/runs").status_code == 200
        users.revoke("carol")
        assert browser.get("/api/v1/runs").status_code == 401
        users.create_token("carol")
        assert browser.get("/api/v1/runs").status_code == 401
    users.revoke("carol")


def test_the_store_holds_no_token(team):
    client = team.server.store.client
    held = " ".join(
        f"{key} {client.get(key) if client.type(key) == 'string' else client.hgetall(key)}"
        for key in client.scan_iter("quant_lens:*")
        if client.type(key) in {"string", "hash"}
    )
    assert "alice" in held
    assert team.alice_token not in held


def test_a_websocket_needs_a_session_too(team):
    address = team.server.url.replace("http", "ws") + "/_dash-ws-callback"
    with pytest.raises(InvalidStatus) as refused:
        connect(address, origin=team.server.url)
    assert refused.value.response.status_code == 401
    with team.server.http() as browser:
        browser.post("/login", data={"token": team.alice_token})
        cookie = {"Cookie": f"quant_lens_session={browser.cookies['quant_lens_session']}"}
    with connect(address, origin=team.server.url, additional_headers=cookie):
        pass
    with pytest.raises(InvalidStatus) as refused:
        connect(address, origin="http://evil.example", additional_headers=cookie)
    assert refused.value.response.status_code == 403


def test_without_sign_in_everyone_here_is_local(lone):
    with lone.http() as http:
        assert http.post("/api/v1/runs", json=SPEC).json()["owner"] == "local"
        assert isinstance(http.get("/"), httpx.Response)
