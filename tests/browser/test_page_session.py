"""A session in a real browser: the conversation as people read it, what stands beside each turn, live, by keyboard."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect
from showcase import ID, TRACE
from viewer_kit import SECOND, message, root, span_id_of, talk, trace_id_of, turn

from otel_llm_sessions import semconv

ADDRESS = f"/sessions/{quote(ID, safe='')}"


@pytest.fixture
def page(viewer, opened):
    return opened(viewer.url + ADDRESS)


def turn_of(page, place: int):
    return page.locator(f"#turn-{place}")


def places(page) -> list[str]:
    return [each.get_attribute("id") for each in page.locator("article.turn").all()]


def test_the_head_has_the_totals(page):
    head = page.locator(".head")
    for text in ("Where is my order?", ID, "anna@example.com", "shop", "6,136", "333", "1,412 cached", "64 reasoning"):
        expect(head).to_contain_text(text)
    expect(head).to_contain_text("$0.000819")
    expect(head).to_contain_text("6 of 7 turns")
    expect(head.locator("dd.bad")).to_have_text("1")
    trace = head.get_by_role("link", name="Trace")
    expect(trace).to_have_attribute("href", re.compile(rf"^http://jaeger\.test/trace/{trace_id_of(TRACE)}\?uiFind="))


def test_the_strip_draws_the_turns_and_leaves_idle_time_out(page):
    expect(page.locator(".strip rect.bar")).to_have_count(7)
    expect(page.locator(".strip rect.bar.bad")).to_have_count(1)
    expect(page.locator(".strip figcaption")).to_contain_text("of idle time left out")
    page.locator(".strip a").nth(4).click()
    assert page.url.endswith("#turn-5")


def test_the_conversation_reads_in_order_with_roles_apart(page):
    first = turn_of(page, 1)
    assert [each.inner_text() for each in first.locator(".role").all()] == ["system", "user", "assistant"]
    expect(first).to_contain_text("I bought two tyres")
    expect(turn_of(page, 3).locator("pre code")).to_have_text('print(order["status"])')
    expect(turn_of(page, 3).locator(".prose code")).to_have_text("packed")
    expect(turn_of(page, 3).locator("strong")).to_have_text("shipped")
    expect(turn_of(page, 3).locator("header")).to_contain_text("1 min 31 s later")


def test_reasoning_and_instructions_are_folded_and_tools_fold(page):
    first = turn_of(page, 1)
    expect(first.get_by_text("An order number is needed, or the account tells it.").last).to_be_hidden()
    first.locator("details.reasoning summary").click()
    expect(first.locator("details.reasoning .prose")).to_be_visible()
    expect(first.locator("details.call pre")).to_have_text(re.compile(r'\{\s+"email": "anna@example.com"\s+\}'))
    result = turn_of(page, 2).locator("details.result")
    expect(result.locator("summary")).to_contain_text("find_orders")
    expect(result.locator("pre")).to_be_hidden()
    result.locator("summary").click()
    expect(result.locator("pre")).to_contain_text('"id": "A-1093"')


def test_beside_a_turn_stands_what_it_took(page):
    beside = turn_of(page, 2).locator("aside")
    for text in ("gpt-4o-mini-2024-07-18", "1,602", "41", "1,412", "$0.000115", "800 ms", "310 ms", "context"):
        expect(beside).to_contain_text(text)
    address = beside.get_by_role("link", name="Trace").get_attribute("href")
    assert address == f"http://jaeger.test/trace/{trace_id_of(TRACE)}?uiFind={span_id_of(2, TRACE)}"


def test_what_failed_is_red_and_says_its_error(page):
    failure = turn_of(page, 4).locator(".failure")
    expect(failure).to_contain_text("openai.RateLimitError")
    expect(failure).to_contain_text("Error code: 429")
    red, green, _ = (int(each) for each in re.findall(r"\d+", failure.evaluate("e => getComputedStyle(e).color"))[:3])
    assert red > 2 * green


def test_a_fork_is_a_branch_and_a_failed_try_is_none(page):
    assert places(page) == [f"turn-{place}" for place in (1, 2, 3, 6, 4, 5, 7)]
    expect(turn_of(page, 6).locator("header")).to_contain_text("branches off turn 3")
    expect(page.locator(".branch-1")).to_have_count(1)


def test_judgements_stand_by_their_turn(page):
    expect(turn_of(page, 3).locator(".judgement")).to_contain_text("helpfulness 0.9 good A working example.")


def test_raw_attributes_fold_out_and_the_whole_turn_has_a_page(page):
    third = turn_of(page, 3)
    expect(third.get_by_text("gen_ai.response.id")).to_be_hidden()
    third.locator("details.raw > summary").click()
    expect(third.get_by_text("gen_ai.response.id")).to_be_visible()
    third.get_by_role("link", name="The whole turn").click()
    page.wait_for_url(f"**/{trace_id_of(TRACE)}/{span_id_of(3, TRACE)}")
    expect(page.locator("h1")).to_have_text("Turn 3")
    expect(page.locator(".span").first).to_contain_text("service.name")


def test_a_new_turn_appears_and_what_was_folded_out_stays_so(viewer, page):
    expect(page.locator("html.is-live")).to_have_count(1)
    page.evaluate("window.same = document.querySelector('#turn-1')")
    turn_of(page, 2).locator("details.result summary").click()
    begin = min(span.start for span in viewer.database.session(ID).spans if span.start)
    asked = [message("user", "One more thing")]
    viewer.add(turn(ID, 8, trace=TRACE, begin=begin, at=2500, after=7, asked=asked))
    expect(turn_of(page, 8)).to_contain_text("One more thing")
    expect(page.locator(".head")).to_contain_text("8")
    expect(page.locator(".strip rect.bar")).to_have_count(8)
    expect(turn_of(page, 2).locator("details.result pre")).to_be_visible()
    assert page.evaluate("window.same === document.querySelector('#turn-1')")


def test_the_keyboard_goes_from_turn_to_turn(page):
    expect(page.locator("html.scripted")).to_have_count(1)
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.id") == "turn-2"
    page.keyboard.press("/")
    expect(page.get_by_placeholder("Search")).to_be_focused()


def test_without_a_script_a_session_reads_and_folds(viewer, opened):
    page = opened(viewer.url + ADDRESS, java_script_enabled=False)
    assert len(places(page)) == 7
    expect(turn_of(page, 3)).to_contain_text("How could I check that")
    turn_of(page, 1).locator("details.reasoning summary").click()
    expect(turn_of(page, 1).locator("details.reasoning .prose")).to_be_visible()


def test_parts_are_joined_and_linked(start, opened, now):
    begin = now - 3600 * SECOND
    spans = talk("long", 2, trace=1, begin=begin)
    spans += [root("long", trace=2, part=2, at=begin + 90 * SECOND)]
    spans += [turn("long", 3, trace=2, at=90, begin=begin, asked=[message("user", "Still there?")])]
    page = opened(start(*spans).url + "/sessions/long")
    assert len(places(page)) == 3
    expect(page.locator(".head").get_by_role("link", name="Trace of part 2")).to_be_visible()
    expect(turn_of(page, 3).locator(".part")).to_have_text("Part 2")


def test_without_content_one_line_says_how_to_turn_it_on(start, opened, now):
    viewer = start(root("quiet", at=now), turn("quiet", 1, begin=now))
    page = opened(f"{viewer.url}/sessions/quiet")
    notice = page.locator(".notice")
    expect(notice).to_have_count(1)
    expect(notice).to_contain_text("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY")


def test_a_history_that_is_sent_again_is_not_shown_again(start, opened, now):
    told = [message("user", "First"), message("assistant", "Second"), message("user", "Third")]
    full = {semconv.LLM_SESSION_CONTENT: "full", "begin": now}
    spans = [
        root("again", at=now),
        turn("again", 1, asked=told[:1], answered=told[1:2], **full),
        turn("again", 2, at=5, after=1, asked=told, answered=[message("assistant", "Fourth")], **full),
    ]
    page = opened(start(*spans).url + "/sessions/again")
    second = turn_of(page, 2)
    expect(second.locator(".earlier")).to_have_text("2 earlier messages, as above")
    assert [each.inner_text() for each in second.locator(".prose").all()] == ["Third", "Fourth"]


def test_a_session_of_many_turns_has_pages(start, opened, now):
    page = opened(start(*talk("long", 260, begin=now - 3600 * SECOND)).url + "/sessions/long")
    assert len(places(page)) == 250
    page.get_by_role("link", name="251").first.click()
    page.wait_for_url("**from=251**")
    assert places(page)[0] == "turn-251"
    page.locator(".strip a").nth(9).click()
    page.wait_for_url("**#turn-10")
    assert len(places(page)) == 250


def test_json_and_otlp_are_a_link_away(viewer, page):
    address = page.get_by_role("link", name="JSON").get_attribute("href")
    told = json.loads(page.request.get(viewer.url + address).body())
    assert (told["id"], told["turn_count"]) == (ID, 7)
