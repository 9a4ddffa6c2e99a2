import pytest

from app.auth.origin import is_loopback, refuse_foreign_origin, refuse_unknown_host

OWN = "127.0.0.1:8050"


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"origin": f"http://{OWN}"}, True),
        ({"origin": f"https://{OWN}"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://127.0.0.1:9999"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://["}, False),
        ({"origin": ""}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://evil.example", "sec-fetch-site": "same-origin"}, False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT", "WEBSOCKET"])
def test_what_changes_something_comes_from_our_own_pages_or_from_no_page(method, headers, passes):
    refusal = refuse_foreign_origin(method, {"host": OWN, **headers})
    assert (refusal is None) == passes
    assert refusal is None or refusal.code == "foreign_origin"


def test_reading_is_free_unless_it_names_another_method():
    foreign = {"host": OWN, "origin": "http://evil.example"}
    assert refuse_foreign_origin("GET", foreign) is None
    assert refuse_foreign_origin("GET", {**foreign, "x-http-method-override": "DELETE"}) is not None


def test_a_proxy_s_own_name_counts_as_ours():
    headers = {"host": "web:8050", "origin": "https://lens.example"}
    assert refuse_foreign_origin("POST", headers) is not None
    assert refuse_foreign_origin("POST", headers, ("lens.example",)) is None


@pytest.mark.parametrize("host", ["localhost:8050", "127.0.0.1:1", "[::1]:8050", "LOCALHOST", "127.8.8.8"])
def test_loopback_names_are_answered(host):
    assert refuse_unknown_host({"host": host}) is None


@pytest.mark.parametrize("host", ["evil.example:8050", "", "127.0.0.1.evil.example", "0.0.0.0", "[", "localhost.evil"])
def test_other_names_are_not(host):
    assert refuse_unknown_host({"host": host}).code == "unknown_host"


def test_a_host_name_that_only_looks_like_loopback_is_none():
    assert not is_loopback("localhost.example")
