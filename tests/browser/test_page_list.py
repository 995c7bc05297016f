"""The list of sessions in a real browser: sorted, filtered, searched, live, by keyboard, without a script."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from viewer_kit import SECOND, talk

ROWS = "table.sessions tbody tr"


def ids(page) -> list[str]:
    return [row.get_attribute("data-key") for row in page.locator(ROWS).all()]


def test_the_list_shows_who_when_how_much_and_what_failed(viewer, opened):
    page = opened(viewer.url)
    row = page.locator(ROWS).filter(has_text="Where is my order?")
    for text in ("support/42", "anna@example.com", "beta", "7", "6,136", "333", "$0.000819"):
        expect(row).to_contain_text(text)
    expect(row.locator(".errors")).to_have_text(re.compile("^1"))
    expect(row.locator(".last time")).to_have_text(re.compile("min ago|just now|h ago"))
    assert len(ids(page)) == 9


def test_sorting_and_filters_stand_in_the_address(viewer, opened):
    page = opened(viewer.url)
    page.get_by_role("link", name="Turns").click()
    page.wait_for_url("**/?sort=turns")
    assert ids(page)[0] == "support/42"
    expect(page.locator("[aria-sort=descending]")).to_have_text(re.compile("Turns"))
    page.get_by_label("Failed").check()
    page.wait_for_url("**errors=true**")
    assert ids(page) == ["support/42"]
    shared = opened(page.url)
    assert ids(shared) == ["support/42"]
    shared.locator(".chip", has_text="Failed").click()
    shared.wait_for_url(re.compile(r"/\?sort=turns$"))
    assert len(ids(shared)) == 9


def test_a_search_finds_names_and_words(viewer, opened):
    page = opened(viewer.url)
    for text, found in (("ORDER?", ["support/42"]), ("neighbour", ["support/42"]), ("chat-03", ["chat-03"])):
        page.get_by_placeholder("Search").fill(text)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**text={text.replace('?', '%3F')}**")
        assert ids(page) == found
        assert "since=" not in page.url
    page.get_by_placeholder("Search").fill("nobody said this")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No session matches")).to_be_visible()


def test_users_have_a_column_as_soon_as_there_is_one(start, opened, now):
    viewer = start(*talk("nobody's", 1, begin=now - 60 * SECOND))
    page = opened(viewer.url)
    expect(page.locator("th.user")).to_be_hidden()
    viewer.add(*talk("anna's", 1, trace=2, begin=now - 30 * SECOND, **{"user.id": "anna"}))
    expect(page.locator("th.user")).to_be_visible()
    expect(page.locator("td.user", has_text="anna")).to_be_visible()


def test_more_filters_fold_out(viewer, opened):
    page = opened(viewer.url)
    page.locator(".more summary").click()
    page.get_by_label("User").fill("ben")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**user=ben**")
    assert ids(page) == ["chat-00", "chat-03", "chat-06"]


def test_a_wrong_filter_is_said(viewer, opened, chromium):
    page = chromium.new_page()  # the browser's console tells of the status as well
    answer = page.goto(f"{viewer.url}/?since=yesterday")
    assert answer is not None
    assert answer.status == 400
    expect(page.get_by_role("alert")).to_contain_text("since 'yesterday' is not valid")
    page.close()


def test_a_session_that_begins_appears_and_one_that_goes_on_changes_in_place(viewer, opened, now):
    page = opened(viewer.url)
    expect(page.locator("html.is-live")).to_have_count(1)
    page.evaluate("window.same = document.querySelector('tr[data-key=\"chat-05\"]')")
    viewer.add(*talk("brand-new", 1, trace=900, begin=now))
    expect(page.locator(ROWS).first).to_contain_text("brand-new")
    expect(page.locator(f"{ROWS}[data-key='brand-new'] .turns")).to_have_text(re.compile("^1"))
    viewer.add(*talk("brand-new", 2, trace=900, begin=now))
    expect(page.locator(f"{ROWS}[data-key='brand-new'] .turns")).to_have_text(re.compile("^2"))
    assert page.evaluate("window.same === document.querySelector('tr[data-key=\"chat-05\"]')"), "others are not touched"


def test_the_first_span_takes_the_place_of_how_to_send_it(start, opened, now):
    viewer = start(receiver="127.0.0.1:14317")
    page = opened(viewer.url)
    expect(page.get_by_text("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:14317")).to_be_visible()
    expect(page.locator("html.is-live")).to_have_count(1)
    viewer.add(*talk("the-first", 1, begin=now - SECOND))
    expect(page.locator(ROWS)).to_contain_text("the-first")


def test_without_news_from_the_server_the_page_asks_now_and_then(start, opened, now):
    viewer = start(changes=None)
    page = opened(viewer.url, apart=True)  # for the clock, which is its context's
    expect(page.get_by_text("No sessions yet")).to_be_visible()
    page.clock.install()
    page.reload()
    viewer.add(*talk("the-first", 1, begin=now))
    page.clock.run_for(11_000)
    expect(page.locator(ROWS)).to_contain_text("the-first")


@pytest.mark.parametrize("session_id", [".", "..", "~.", "a/./b", "../..", "..\\", "%2e%2e", "?#;", "a//b/"])
def test_any_session_is_opened_by_its_row(start, opened, now, session_id):
    viewer = start(*talk(session_id, 2, begin=now - 3600 * SECOND))
    page = opened(viewer.url)
    page.locator("a.row").click()
    expect(page.locator("h1")).to_have_text(session_id)
    page.get_by_role("link", name="Turn 2").click()
    expect(page.locator("article.turn")).to_have_count(2)
    page.locator("article.turn").first.locator("summary", has_text="Attributes").click()
    page.get_by_role("link", name="The whole turn").first.click()
    expect(page.locator("h1")).to_have_text("Turn 1")
    page.locator("a.back").click()
    expect(page.locator("article.turn")).to_have_count(2)
    told = page.evaluate("fetch(document.querySelector('p.export a').href).then((answer) => answer.json())")
    assert (told["id"], told["turn_count"]) == (session_id, 2)


def test_the_longer_a_page_asks_in_vain_the_less_often_it_does(start, opened, now):
    viewer = start(*talk("s1", 1, begin=now - 3600 * SECOND), changes=None)
    page, asked = opened("about:blank", apart=True), []
    page.clock.install()
    page.on("request", lambda request: asked.append(request.url) if "/sessions/" in request.url else None)
    page.goto(f"{viewer.url}/sessions/s1")
    expect(page.locator("html.scripted")).to_have_count(1)

    def times_in(seconds: int) -> int:
        before = len(asked)
        for _ in range(seconds):
            page.clock.run_for(1_000)
            page.wait_for_load_state("networkidle")
        return len(asked) - before

    assert 2 <= times_in(30) <= 3
    assert times_in(160) <= 5
    viewer.add(*talk("s1", 2, begin=now - 3600 * SECOND))
    page.clock.run_for(400_000)
    expect(page.locator("article.turn")).to_have_count(2)


def test_the_keyboard_moves_opens_searches_and_comes_back(viewer, opened):
    page = opened(viewer.url)
    expect(page.locator("html.scripted")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    second = ids(page)[1]
    assert page.evaluate("document.activeElement.closest('tr').dataset.key") == second
    page.keyboard.press("Enter")
    page.wait_for_url("**/sessions/**")
    expect(page.locator("html.scripted h1")).to_contain_text(second)
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile(r"/$"))
    expect(page.locator("html.scripted")).to_have_count(1)
    page.keyboard.press("/")
    expect(page.get_by_placeholder("Search")).to_be_focused()
    page.keyboard.type("j")
    expect(page.get_by_placeholder("Search")).to_have_value("j")
    page.keyboard.press("Escape")
    expect(page.get_by_placeholder("Search")).not_to_be_focused()


def test_without_a_script_the_list_reads_filters_and_opens(viewer, opened):
    page = opened(viewer.url, java_script_enabled=False)
    assert len(ids(page)) == 9
    expect(page.locator(ROWS).first.locator("time").first).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d .* UTC$"))
    page.get_by_placeholder("Search").fill("order")
    page.get_by_role("button", name="Search").click()
    assert ids(page) == ["support/42"]
    page.get_by_role("link", name="Where is my order?").click()
    expect(page.locator("h1")).to_have_text("Where is my order?")


def test_times_are_told_in_the_readers_zone(viewer, opened, now):
    page = opened(viewer.url, timezone_id="Asia/Tokyo")
    title = page.locator(f"{ROWS} .last time").first.get_attribute("title")
    assert title is not None
    assert "GMT+9" in title


def test_many_sessions_are_read_page_by_page(start, opened, now):
    spans = [
        span
        for index in range(60)
        for span in talk(f"s-{index:02d}", 1, trace=index + 1, begin=now - (index + 1) * SECOND * 60)
    ]
    viewer = start(*spans)
    page = opened(viewer.url)
    first = ids(page)
    page.get_by_role("link", name="Next page").click()
    page.wait_for_url("**cursor=**")
    assert (len(first), len(ids(page))) == (50, 10)
    assert not set(first) & set(ids(page))
