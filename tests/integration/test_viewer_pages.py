"""The viewer's pages as they are sent, over any source; what browsers make of them stands in ``tests/browser``."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import quote

import httpx
import pytest
from showcase import ID, showcase
from viewer_kit import Kept, app_of, client_of, message, root, serving, span_id_of, talk, trace_id_of, turn

from otel_llm_sessions import semconv
from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.server.security import security_for
from otel_llm_sessions.view.spans import ReceivedLink

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}\x1b[31m\ud800"


class Elements(HTMLParser):
    """The elements of a page, and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def pages_of(session_id: str) -> tuple[str, str, str]:
    session = f"/sessions/{quote(session_id.encode('utf-8', 'surrogatepass'), safe='')}"
    return "/", session, f"{session}/{trace_id_of(1)}/{span_id_of(1)}"


def test_whatever_spans_say_is_escaped_everywhere():
    about = {semconv.USER_ID: EVIL, semconv.LLM_SESSION_NAME: EVIL, EVIL: EVIL}
    said = turn(EVIL, 1, asked=[message(EVIL, EVIL)], error=EVIL, error_text=EVIL, service=EVIL, **about)
    kept = Kept([root(EVIL, **about), said])
    kept.trace_address = lambda trace_id, span_id: f"javascript:{trace_id}"
    for path in pages_of(EVIL):
        answer = client_of(kept).get(path)
        assert answer.status_code == 200
        found = Elements(answer.text).found
        assert {tag for tag, _ in found} & {"img", "style", "iframe"} == set()
        assert [each.get("src", "").startswith("/static/view.js") for tag, each in found if tag == "script"] == [True]
        assert not [name for _, each in found for name in each if name.startswith("on") or name == "style"]
        assert not [each for tag, each in found if tag == "a" and not each["href"].startswith(("/", "?", "#"))]
        assert "\x1b" not in answer.text


def test_a_page_is_there_without_any_script_and_names_nothing_from_elsewhere():
    page = client_of(Kept(showcase(0))).get(f"/sessions/{quote(ID, safe='')}")
    loaded = [each for tag, each in Elements(page.text).found if tag in ("script", "link")]
    assert len(loaded) == 3
    assert all((each.get("src") or each["href"]).startswith("/static/") for each in loaded)
    assert "It is packed and waits for the courier." in page.text
    assert page.headers["cache-control"] == "private, no-cache"


def test_files_are_kept_by_browsers_for_as_long_as_they_stay_the_same():
    client = client_of(Kept())
    for name, kind in (("view.css", "text/css"), ("view.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = client.get(f"/static/{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert "immutable" in answer.headers["cache-control"]
        assert f"/static/{name}?" in client.get("/").text
    assert client.get("/static/app.py").status_code == 404
    assert client.get("/static/..%2fapp.py").status_code == 404


def test_an_empty_list_says_how_to_send_the_first_span():
    default = client_of(Kept(), receiver="127.0.0.1:4317").get("/").text
    assert "opentelemetry-instrument python app.py" in default
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in default
    other = client_of(Kept(), receiver="127.0.0.1:9999").get("/").text
    assert "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9999" in other
    asks = client_of(Kept(), receiver="10.0.0.1:4317", security=security_for("0.0.0.0", token="t"))
    told = asks.get("/", headers={"Authorization": "Bearer t"}).text
    assert "authorization=Bearer%20TOKEN" in told, "the variable's values are percent-encoded"
    elsewhere = client_of(Kept()).get("/").text
    assert "the spans of a test" in elsewhere


def test_an_id_under_which_turns_were_filed_leads_to_their_session():
    filed = turn("resp_1_2", 1, trace=2, at=30, **{semconv.REQUEST_PREVIOUS_RESPONSE_ID: "resp_1_2"})
    answer = client_of(Kept([*talk("s1", 2), filed])).get("/sessions/resp_1_2")
    assert (answer.status_code, answer.headers["location"]) == (302, "/sessions/s1")


@pytest.mark.parametrize(
    "path", ["/sessions/none", "/sessions/s1/x", "/sessions/s1/x/y", "/sessions/", "/nowhere", "/sessions/%FF"]
)
def test_what_is_not_there_is_said_on_a_page(path):
    answer = client_of(Kept(talk("s1", 1))).get(path)
    assert answer.status_code == 404
    assert "<h1>" in answer.text


@pytest.mark.parametrize("begin", ["0", "-1", "9999999", "x", "1" * 50, ""])
def test_any_place_to_begin_at_shows_some_turns(begin):
    assert "Answer 1." in client_of(Kept(talk("s1", 3))).get(f"/sessions/s1?from={begin}").text


def test_who_brings_no_token_is_asked_for_it_on_a_page():
    client = client_of(Kept(talk("s1", 1)), security=security_for("0.0.0.0", token="the-token"))
    asked = client.get("/sessions/s1")
    assert asked.status_code == 401
    assert "Answer 1." not in asked.text
    assert ("input", "token") in [(tag, each.get("name")) for tag, each in Elements(asked.text).found]
    assert client.get("/sessions/s1?token=the-token").status_code == 303
    assert "Answer 1." in client.get("/sessions/s1").text


def test_news_come_as_events_and_end_when_the_server_stops():
    kept = Kept(talk("s1", 1))

    async def listen(url: str) -> list[str]:
        lines = []
        async with httpx.AsyncClient(timeout=20) as client, client.stream("GET", f"{url}/live?after=0") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line.startswith("retry"):
                    kept.add(*talk("s2", 1, trace=2))
                if line.startswith("data"):
                    lines.append(line)
                    break
        return lines

    app = app_of(kept, changes=kept)
    with serving(app) as url:
        assert asyncio.run(listen(url)) == ["data: 1"]
    assert app.state.stopping
    assert client_of(kept).get("/live").status_code == 404


def test_sessions_that_were_started_in_one_another_are_linked():
    link = ReceivedLink(trace_id_of(1), span_id_of(0, 1), {semconv.LLM_SESSION_LINK: "parent_session"})
    below, *turns = talk("below", 1, trace=2)
    with closing(Database()) as database:
        database.add([*talk("above", 1, trace=1), replace(below, links=(link,)), *turns])
        database.settle()
        pages = {name: client_of(database).get(f"/sessions/{name}").text for name in ("above", "below")}
    assert 'Started in <a href="/sessions/above">' in pages["below"]
    assert 'Started <a href="/sessions/below">' in pages["above"]


def test_what_has_left_and_what_is_cut_off_is_said():
    kept = Kept(talk("s1", 1), notices=("12 sessions left to make room",))
    assert "12 sessions left to make room" in client_of(kept).get("/").text
    cut = turn(
        "s2", 1, trace=2, **{semconv.INPUT_MESSAGES: '[{"role": "user", "parts": [{"type": "text", "content": "Wher'}
    )
    page = client_of(Kept([cut])).get("/sessions/s2").text
    assert "Wher" in page
    assert "cut off" in page


@pytest.mark.slow
def test_a_session_of_500_turns_is_made_within_300_ms():
    kept = Kept([root("s1"), *talk("s1", 500)[1:]])
    client = client_of(kept)
    client.get("/sessions/s1")
    took = []
    for _ in range(5):
        begun = time.process_time_ns()
        assert client.get("/sessions/s1").status_code == 200
        took.append((time.process_time_ns() - begun) / 1e6)
    assert min(took) < 300, took
