"""Who may use the viewer: names, origins, tokens; and the gate in front of everything that is served."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from otel_llm_sessions.view.server import security as security_module
from otel_llm_sessions.view.server.gate import CONTENT_POLICY, Gate
from otel_llm_sessions.view.server.security import Security, is_loopback, security_for

TOKEN = "a-token-of-the-tests"
HOST = "127.0.0.1:4318"


def client_of(security: Security, host: str = HOST, scheme: str = "http") -> TestClient:
    """A client of an application behind the gate that says which path and query it was asked for."""

    async def said(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.url.path}?{request.url.query}")

    async def unknown(scope, receive, send):
        await PlainTextResponse("who are you?", 401)(scope, receive, send)

    app = Starlette(
        routes=[Route("/{rest:path}", said, methods=["GET", "POST"])],
        middleware=[Middleware(Gate, security=security, unknown=lambda scope: unknown)],
    )
    return TestClient(app, base_url=f"{scheme}://{host}", follow_redirects=False)


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_loopback_is_known_by_name_and_address(host):
    assert is_loopback(host)
    assert security_for(host).token == ""


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.1.7", "viewer.example.com", "localhost.example.com"])
def test_beyond_loopback_there_is_always_a_token(host):
    made, given = security_for(host), security_for(host, token=TOKEN)
    assert len(made.token) >= 32
    assert made.token != security_for(host).token
    assert given.token == TOKEN


def test_a_token_is_shown_by_no_repr():
    assert TOKEN not in repr(security_for("0.0.0.0", token=TOKEN))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"token": "with space"}, "token"),
        ({"token": "nön-ascii"}, "token"),
        ({"allow_hosts": ["https://a.example"]}, "https://a.example"),
        ({"allow_hosts": ["a/b"]}, "a/b"),
        ({"allow_origins": ["*"]}, "'*'"),
        ({"allow_origins": ["a.example"]}, "a.example"),
        ({"allow_origins": ["https://a.example/path"]}, "https://a.example/path"),
        ({"allow_origins": ["https://user@a.example"]}, "https://user@a.example"),
        ({"allow_origins": ["http://[::1"]}, "http://[::1"),
    ],
)
def test_what_is_not_valid_is_said_in_one_line(arguments, named):
    with pytest.raises(ValueError, match="is not valid: expected") as told:
        security_for("127.0.0.1", **arguments)
    assert "\n" not in str(told.value)
    if "token" not in arguments:
        assert named in str(told.value)


@pytest.mark.parametrize("host", ["127.0.0.1:4318", "localhost:9999", "LOCALHOST", "[::1]:4318", "viewer.test:1"])
def test_while_bound_to_loopback_it_answers_to_names_of_loopback_and_to_those_that_were_added(host):
    assert client_of(security_for("127.0.0.1", allow_hosts=["viewer.test"]), host).get("/").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4318", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "x y"]
)
def test_a_name_that_somebody_made_mean_this_machine_is_not_answered_to(host):
    client = client_of(security_for("127.0.0.1"))
    for path in ("/", "/api/sessions", "/v1/traces"):
        refused = client.get(path, headers={"Host": host})
        assert refused.status_code == 403
        assert "--allow-host" in refused.text


def test_beyond_loopback_every_name_is_answered_to():
    client = client_of(security_for("0.0.0.0", token=TOKEN), "viewer.example.com")
    assert client.get("/api/x", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "file://", ""])
def test_pages_of_others_may_not_ask(method, origin):
    refused = client_of(security_for("127.0.0.1")).request(method, "/v1/traces", headers={"Origin": origin})
    assert refused.status_code == 403
    assert "--allow-origin" in refused.json()["error"]
    assert "access-control-allow-origin" not in refused.headers


def test_the_own_page_may_ask():
    client = client_of(security_for("127.0.0.1"))
    assert client.get("/", headers={"Origin": f"http://{HOST}"}).status_code == 200


def test_an_origin_that_was_allowed_may_ask_and_read_and_send_spans():
    friend = "https://app.example.com"
    client = client_of(security_for("127.0.0.1", allow_origins=[friend]))
    asked = {"Origin": friend, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a"}
    before = client.options("/v1/traces", headers=asked)
    assert before.status_code == 204
    assert before.headers["access-control-allow-origin"] == friend
    assert before.headers["access-control-allow-headers"] == "x-a"
    sent = client.post("/v1/traces", headers={"Origin": friend})
    assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (200, friend)
    assert "Origin" in sent.headers["vary"]
    assert client.options("/v1/traces", headers={**asked, "Origin": "https://other.example"}).status_code == 403


def test_programs_bring_the_token_in_a_header():
    client = client_of(security_for("0.0.0.0", token=TOKEN))
    for path in ("/", "/api/sessions", "/v1/traces"):
        assert client.post(path).status_code == 401
        assert client.post(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.post(path, headers={"Authorization": TOKEN}).status_code == 401
        assert client.post(path, headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    refused = client.get(f"/api/sessions?token={TOKEN}")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer" in refused.json()["error"]


def test_a_browser_brings_the_token_once_and_keeps_a_cookie_that_is_not_the_token():
    client = client_of(security_for("0.0.0.0", token=TOKEN))
    assert client.get("/sessions/1?token=wrong").text == "who are you?"
    let_in = client.get(f"/sessions/a%2Fb?sort=cost&token={TOKEN}&text=%26")
    assert let_in.status_code == 303
    assert let_in.headers["location"] == "/sessions/a%2Fb?sort=cost&text=%26"
    cookie = let_in.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/sessions/1").status_code == 200
    assert client.get("/api/sessions").status_code == 200
    assert client.post("/v1/traces").status_code == 401, "a cookie alone sends nothing"


@pytest.mark.parametrize("token", [TOKEN, "wrong", ""])
def test_who_is_in_already_does_not_keep_the_token_in_the_address(token):
    security = security_for("0.0.0.0", token=TOKEN)
    for headers in ({"Cookie": f"{security.cookie_name}={security.cookie}"}, {"Authorization": f"Bearer {TOKEN}"}):
        answer = client_of(security).get(f"/sessions/1?token={token}&from=2", headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sessions/1?from=2")
        assert ("set-cookie" in answer.headers) is (token == TOKEN)
    open_to_all = client_of(security_for("127.0.0.1")).get(f"/?token={token}")
    assert (open_to_all.status_code, open_to_all.headers["location"]) == (303, "/")
    assert "set-cookie" not in open_to_all.headers


def test_the_cookie_is_sent_over_tls_alone_where_the_page_was():
    answer = client_of(security_for("0.0.0.0", token=TOKEN), scheme="https").get(f"/?token={TOKEN}")
    assert "Secure" in answer.headers["set-cookie"]


def test_a_cookie_among_broken_ones_is_found():
    security = security_for("0.0.0.0", token=TOKEN)
    cookies = f'other={{"a": "b"}}; =; {security.cookie_name}={security.cookie}; last'
    assert client_of(security).get("/", headers={"Cookie": cookies}).status_code == 200
    assert client_of(security).get("/", headers={"Cookie": f"{security.cookie_name}=x"}).status_code == 401


def test_viewers_of_one_host_have_cookies_of_their_own():
    assert security_for("0.0.0.0").cookie_name != security_for("0.0.0.0").cookie_name


@pytest.mark.parametrize("path", ["//evil.example/x", "/%5Cevil.example", "///evil.example", "/\\evil.example"])
def test_with_a_token_nobody_is_sent_elsewhere(path):
    client = client_of(security_for("0.0.0.0", token=TOKEN))
    location = client.get(f"http://{HOST}{path}?token={TOKEN}").headers["location"]
    assert location.startswith("/")
    assert location[1:2] not in ("/", "\\")


def test_style_and_script_need_no_token():
    assert client_of(security_for("0.0.0.0")).get("/static/view.css").status_code == 200


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr(security_module.hmac, "compare_digest", lambda one, other: bool(compared.append(one)))
    security = security_for("0.0.0.0", token=TOKEN)
    assert not security.admits_authorization(f"Bearer {TOKEN}")
    assert not security.admits_cookie("x")
    assert len(compared) == 2


@pytest.mark.parametrize("path", ["/", "/static/view.css", "/api/x", "/v1/traces"])
def test_every_answer_says_what_browsers_must_not_do(path):
    for status, headers in ((200, {}), (403, {"Host": "evil.example"})):
        answer = client_of(security_for("127.0.0.1")).get(path, headers=headers)
        assert answer.status_code == status
        assert answer.headers["content-security-policy"] == CONTENT_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere():
    assert CONTENT_POLICY.startswith("default-src 'none'")
    assert "unsafe" not in CONTENT_POLICY
    assert "http" not in CONTENT_POLICY
    assert "*" not in CONTENT_POLICY
