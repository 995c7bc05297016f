"""Whatever spans say is text: nothing of it runs, nothing of it becomes part of the page, nothing hides in it."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from browser_kit import unfold
from playwright.sync_api import expect
from viewer_kit import called, message, resulted, root, span_id_of, trace_id_of, turn

from otel_llm_sessions import semconv
from otel_llm_sessions.view.spans import ReceivedEvent, ReceivedLink, ReceivedSpan

SCRIPTS = (
    "<script>window.ran = 1; alert(1)</script>",
    '"><img src=x onerror="window.ran = 1">',
    "'><svg onload=window.ran=1><style>*{display:none}</style>",
    "javascript:window.ran=1//",
    "</title></textarea></pre></code><iframe src='javascript:parent.ran=1'></iframe>",
    "{{ 7 * 7 }}{% raw %}<b id=injected>bold</b>",
    "```\n<script>window.ran = 1</script>\n```\n`<i id=injected>` **<u id=injected>**",
    "&lt;script&gt;&#60;script&#62;<!--",
)
ODD = "\x1b[31mred\x1b]0;title\x07\x1b[2J \x00 \u202eright to left\u202c \u2066isolated \ufeff\u200b\x85\x9b31m"
LONG = "w" * 1_000_000
EVIL = " ".join(SCRIPTS) + ODD
ID = "evil/'\"<script>window.ran=1</script>\u202e\x1b[31m%2F"

SPIES = "script:not([src]), img, iframe, svg style, main style, object, embed, [onerror], [onload], #injected"


def everything(session_id: str, evil: str, **more: object) -> list[ReceivedSpan]:
    """A session with the text in everything that a span can say."""
    parts = [evil, {"type": evil, "content": evil}, {"type": "reasoning", "content": evil}, called(evil, evil, evil)]
    parts += [resulted(evil, evil), {"type": "blob", "mime_type": evil, "modality": evil, "size": 7}]
    parts += [{"type": "uri", "uri": f"javascript:window.ran=1//{evil}", "mime_type": evil}]
    named = {
        name: evil
        for name in vars(semconv).values()
        if isinstance(name, str) and name.startswith(("gen_ai.", "openai.", "llm_session.", "error.", "user."))
    }
    said = {
        **named,
        evil: evil,
        semconv.SESSION_ID: session_id,
        semconv.OPERATION_NAME: "chat",
        semconv.LLM_SESSION_TURN: 1,
        semconv.LLM_SESSION_TAGS: (evil, evil),
        semconv.INPUT_MESSAGES: json.dumps([message(evil, *parts), message("user", *parts), message("tool", *parts)]),
        semconv.OUTPUT_MESSAGES: json.dumps([message("assistant", *parts, finish_reason=evil)]),
    }
    for name in (semconv.LLM_SESSION_ROOT, semconv.LLM_SESSION_PART, semconv.EVALUATION_NAME, semconv.LLM_SESSION_LINK):
        said.pop(name)
    links = (ReceivedLink(trace_id_of(9), span_id_of(9), {semconv.LLM_SESSION_LINK: evil, evil: evil}),)
    call = turn(session_id, 1, error=evil, error_text=evil, service=evil)
    about = {semconv.LLM_SESSION_NAME: evil, semconv.USER_ID: evil, semconv.LLM_SESSION_TAGS: (evil,)}
    judgement = {
        semconv.SESSION_ID: session_id,
        semconv.EVALUATION_NAME: evil,
        semconv.EVALUATION_SCORE_LABEL: evil,
        semconv.EVALUATION_EXPLANATION: evil,
    }
    return [
        root(session_id, **about),
        ReceivedSpan(
            evil,
            call.trace_id,
            call.span_id,
            call.parent_id,
            "CLIENT",
            call.start,
            call.end,
            said,
            links,
            (ReceivedEvent(evil, call.start, {evil: evil}),),
            "ERROR",
            evil,
            {"service.name": evil, evil: evil},
            evil,
        ),
        ReceivedSpan(evil, call.trace_id, span_id_of(5), call.parent_id, start=1, end=2, attributes=judgement),
    ]


def addresses(url: str, session_id: str) -> list[str]:
    session = f"{url}/sessions/{quote(session_id, safe='')}"
    return [url, session, f"{session}/{trace_id_of(1)}/{span_id_of(1)}"]


@pytest.mark.parametrize("evil", [EVIL, *SCRIPTS], ids=["all", *(f"script-{index}" for index in range(len(SCRIPTS)))])
def test_nothing_that_spans_say_runs_or_becomes_part_of_the_page(start, opened, evil):
    viewer = start(*everything(ID, evil))
    for address in addresses(viewer.url, ID):
        page = opened(address)
        expect(page.locator("html.scripted main")).to_have_count(1)
        unfold(page)
        assert page.evaluate("window.ran") is None
        assert page.locator(SPIES).count() == 0
        assert page.locator("a[href^='javascript:' i]").count() == 0
        assert page.title() == page.locator("title").first.inner_text().strip()
        assert page.locator("footer.keys").count() == 1
        assert "window.ran" not in evil or "window.ran" in page.locator("body").inner_text(), "it is shown as it is"


def test_what_spans_say_is_told_apart_in_direction_and_shows_what_it_hides(start, opened):
    viewer = start(*everything(ID, ODD))
    for address in addresses(viewer.url, ID):
        page = opened(address)
        text = page.locator("body").inner_text()
        assert "\u241b" in text
        assert not {"\x1b", "\x00", "\x07", "\x9b"} & set(page.content())
        bare = page.evaluate(
            """() => {
                const odd = /[\\u202a-\\u202e\\u2066-\\u2069]/, bare = [];
                const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
                while (walker.nextNode()) {
                    const node = walker.currentNode;
                    const apart = node.parentElement.closest("bdi, [dir=auto], [dir=ltr], title, option, svg");
                    if (odd.test(node.data) && !apart) bare.push(node.parentElement.outerHTML.slice(0, 200));
                }
                return bare;
            }"""
        )
        assert bare == []


def test_words_of_a_million_letters_keep_the_page_narrow_and_small(start, opened):
    viewer = start(*everything("long", LONG))
    for address in addresses(viewer.url, "long")[:2]:
        page = opened(address, width=360)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert len(page.content()) < 1_500_000
    page = opened(addresses(viewer.url, "long")[2], width=1280)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_session_with_any_id_opens_from_the_list(start, opened):
    viewer = start(*everything(ID, "plain"))
    page = opened(viewer.url)
    page.locator("a.row").click()
    page.wait_for_url("**/sessions/**")
    expect(page.locator(".about")).to_contain_text("evil/'\"<script>window.ran=1</script>")
    assert page.evaluate("window.ran") is None


def test_the_policy_stops_what_would_get_in_all_the_same(viewer, chromium):
    page = chromium.new_page()
    page.goto(viewer.url)
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = 1";
            document.body.append(script);
            const image = "<img src=x onerror='window.ran = 1'>";
            document.body.insertAdjacentHTML("beforeend", `${image}<p style='color: red' id=p>`);
        }"""
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.ran") is None
    assert page.evaluate("getComputedStyle(document.querySelector('#p')).color") != "rgb(255, 0, 0)"
    page.close()
