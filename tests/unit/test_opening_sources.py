"""Which source an address is, and how little an odd one can do."""

from __future__ import annotations

import base64
import json
import socket
import threading
from contextlib import contextmanager

import pytest
from web_kit import Asked, web

from otel_llm_sessions.view.query import Query
from otel_llm_sessions.view.source import Unreachable
from otel_llm_sessions.view.sources.opening import open_source

HTML = (200, b"<!doctype html><title>Jaeger UI</title>")
JAEGER = {"/api/services": {"data": ["app"], "total": 1}, "/api/v3/services": {"services": ["app"]}}
NEW_JAEGER = {"/api/v3/services": {"services": []}}
EMPTY_JAEGER = {"/api/services": {"data": None, "total": 0}, "/api/v3/services": {}}
VIEWER = {"/api/health": {"status": "ok", "viewer": "otel-llm-sessions", "version": "1"}}
TEMPO_BEHIND = {"/api/v2/search/tags": {"scopes": []}}


def pages(answers: dict, otherwise=(404, b"404 page not found"), prefix=""):
    def answer(asked: Asked):
        known = {prefix + path: body for path, body in answers.items()}
        return (200, json.dumps(known[asked.path]).encode()) if asked.path in known else otherwise

    return answer


def tempo(asked: Asked):
    return (200, b"echo") if asked.path == "/api/echo" else (404, b"404 page not found")


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (pages(JAEGER, HTML), "Jaeger at "),
        (pages(NEW_JAEGER, HTML), "Jaeger at "),
        (pages(EMPTY_JAEGER, HTML), "Jaeger at "),
        (tempo, "Tempo at "),
        (pages(TEMPO_BEHIND), "Tempo at "),
        (pages(VIEWER), "the viewer at "),
    ],
    ids=["jaeger", "jaeger v3 alone", "jaeger that has heard of nobody", "tempo", "tempo behind a gateway", "viewer"],
)
def test_what_answers_says_which_source_it_is(answer, name):
    with web(answer) as served:
        assert open_source(served.url).name == name + served.url
        assert open_source(served.url.removeprefix("http://")).name == name + served.url


@pytest.mark.parametrize("kind", ["Jaeger", "Tempo", "the viewer"])
def test_an_address_may_say_which_source_it_is_and_then_nothing_is_asked(kind):
    scheme = kind.removeprefix("the ").lower()
    assert open_source(f"{scheme}+https://host.invalid/below/").name == f"{kind} at https://host.invalid/below"


def test_the_prefix_of_an_address_stays():
    with web(pages(JAEGER, HTML, "/jaeger")) as served:
        source = open_source(f"{served.url}/jaeger/")
        assert source.name == f"Jaeger at {served.url}/jaeger"
        assert source.trace_url("a" * 32, "b" * 16) == f"{served.url}/jaeger/trace/{'a' * 32}?uiFind={'b' * 16}"
        with pytest.raises(Unreachable, match="neither a viewer nor Tempo nor Jaeger"):
            open_source(served.url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host",
        "phoenix+http://host",
        "http://",
        "http://[::1",
        "http://host:x",
        "http://a:hunter2@:80/",
        "http://h/\n",
    ],
)
def test_an_address_that_is_none_is_wrong_use_and_shows_no_password(url):
    with pytest.raises(ValueError, match="expected http:// or https://") as wrong:
        open_source(url)
    assert "hunter2" not in str(wrong.value)


def test_credentials_in_an_address_are_sent_and_shown_nowhere():
    with web(pages(JAEGER, HTML)) as served:
        address = served.url.replace("http://", "http://ann%40example.org:p%3Ass@")
        source = open_source(address)
        assert source.name == f"Jaeger at {served.url}"
        said = {asked.headers.get("Authorization") for asked in served.asked}
        assert said == {"Basic " + base64.b64encode(b"ann@example.org:p:ss").decode()}
    with pytest.raises(Unreachable) as away:
        open_source(address).sessions(Query())
    assert "p%3Ass" not in str(away.value) and "p:ss" not in str(away.value)


def test_headers_are_sent_and_win_over_the_address():
    with web(pages(JAEGER, HTML)) as served:
        open_source(served.url.replace("//", "//a:b@"), {"Authorization": "Bearer t", "X-Scope-OrgID": "team"})
        said = [{name.lower(): value for name, value in asked.headers.items()} for asked in served.asked]
        assert {(one["authorization"], one["x-scope-orgid"]) for one in said} == {("Bearer t", "team")}


def test_a_source_that_asks_who_we_are_says_what_to_set():
    with web(lambda asked: (401, b"no")) as served:
        with pytest.raises(Unreachable, match="401 Unauthorized.*OTEL_LLM_SESSIONS_FROM_HEADERS"):
            open_source(served.url)


def test_a_redirection_is_not_followed_but_told():
    with web(pages(JAEGER, HTML)) as elsewhere:
        with web(lambda asked: (302, b"", {"Location": f"{elsewhere.url}/login"})) as served:
            with pytest.raises(Unreachable, match=r"neither.*/api/health 302"):
                open_source(served.url, {"Authorization": "Bearer secret"})
            with pytest.raises(Unreachable, match=f"302 Found, to {elsewhere.url}/login"):
                open_source(f"jaeger+{served.url}").sessions(Query())
        assert elsewhere.asked == []


def test_where_nobody_listens_is_said_in_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"^GET http://127\.0\.0\.1:\d+/api/health: .*refused$"):
            open_source(address)


@contextmanager
def listening(talk):
    """A server of a test's own that does with a connection what it likes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection:
                    talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()


def test_a_server_that_says_nothing_is_given_up():
    def silence(connection: socket.socket) -> None:
        connection.settimeout(10)
        while connection.recv(4096):
            pass

    with listening(silence) as address, pytest.raises(Unreachable, match="no answer in time"):
        open_source(address, patience=0.1)


def test_a_server_that_answers_in_drops_is_given_up():
    given_up = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(4096)
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not given_up.wait(0.02):
                connection.sendall(b" ")
        except OSError:
            pass

    with listening(drip) as address:
        with pytest.raises(Unreachable, match="no answer in time"):
            open_source(address, patience=0.2)
        given_up.set()


ODD = {
    "a page": HTML,
    "no JSON": (200, b"{"),
    "deep JSON": (200, b"[" * 200_000),
    "a number": (200, b"7"),
    "a text": (200, b'"data"'),
    "a list": (200, b"[]"),
    "nothing": (200, b""),
    "no text": (200, b"\xff\xfe\x00"),
    "an error": (500, b"\x1b[31m" + b"x" * 5000),
    "cut off": (200, b'{"data": ["app"', {"Content-Length": 400}),
    "closed": (0, b""),
    "other things": (200, b'{"data": {"a": 1}, "services": 3, "viewer": null, "traces": "x", "result": [7]}'),
}


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("kind", ["jaeger", "tempo"])
def test_an_odd_answer_is_one_line_and_no_traceback(kind, odd):
    with web(lambda asked: ODD[odd]) as served:
        source = open_source(f"{kind}+{served.url}")
        for ask in (lambda: source.sessions(Query()).sessions, lambda: source.session("one")):
            try:
                assert not ask()
            except Unreachable as away:
                assert str(away).isprintable() and len(str(away)) < 500 and served.url in str(away)


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_what_is_no_source_is_said_to_be_none(odd):
    with web(lambda asked: ODD[odd]) as served:
        try:
            assert open_source(served.url).name == ""
        except Unreachable as away:
            assert str(away).isprintable() and len(str(away)) < 500


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [7, None, {"spans": 3}, {"spans": [7, {}, {"traceID": 1, "spanID": 2}]}]},
        {"data": "x"},
        {"data": {}},
        {},
    ],
)
def test_odd_traces_in_answers_are_left_out(answer):
    told = []

    def reply(asked: Asked):
        told.append(asked.path)
        return 200, json.dumps(JAEGER["/api/services"] if "services" in asked.path else answer).encode()

    with web(reply) as served:
        source = open_source(f"jaeger+{served.url}")
        for ask in (lambda: source.sessions(Query()).sessions, lambda: source.session("one")):
            told.clear()
            try:
                assert not ask()
            except Unreachable as away:
                assert "\n" not in str(away)
            assert [path for path in told if "services" not in path]
