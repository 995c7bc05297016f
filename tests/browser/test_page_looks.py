"""How the page looks: contrast in both schemes, from narrow to wide, quick to paint, and small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from browser_kit import unfold
from playwright.sync_api import expect
from showcase import ID, TRACE, others, showcase
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from viewer_kit import SECOND, span_id_of, trace_id_of

from otel_llm_sessions.view.server import files

SESSION = f"/sessions/{quote(ID, safe='')}"
PAGES = {
    "list": "/",
    "filtered": "/?text=a&errors=true&sort=turns",
    "nothing": "/?text=nobody+said+this",
    "session": SESSION,
    "turn": f"{SESSION}/{trace_id_of(TRACE)}/{span_id_of(4, TRACE)}",
}
KIB = 1024

CONTRASTS = """() => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = rgba(getComputedStyle(at).backgroundColor);
            if (color[3] === 255) return color;
            if (color[3] !== 0) throw new Error("a background that lets others through: " + at.outerHTML.slice(0, 99));
        }
        throw new Error("no background");
    };
    const pairs = new Map();
    const note = (element, style, text) => {
        const [fore, back] = [rgba(style.color), ground(element)];
        const [one, other] = [light(fore), light(back)].sort((a, b) => b - a);
        const ratio = (one + 0.05) / (other + 0.05);
        pairs.set(`${fore.slice(0, 3)} on ${back.slice(0, 3)}`, [ratio, text.trim().slice(0, 40)]);
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (walker.currentNode.data.trim() && element.checkVisibility() && !element.closest("svg"))
            note(element, getComputedStyle(element), walker.currentNode.data);
    }
    for (const field of document.querySelectorAll("input:not([type=checkbox])"))
        if (field.checkVisibility())
            for (const part of [null, "::placeholder"]) note(field, getComputedStyle(field, part), field.placeholder);
    return [...pairs].map(([pair, [ratio, text]]) => ({pair, ratio, text}));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_every_text_can_be_told_from_what_it_stands_on(viewer, opened, name, scheme):
    page = opened(viewer.url + PAGES[name], color_scheme=scheme)
    expect(page.locator("html.scripted")).to_have_count(1)
    unfold(page)
    found = page.evaluate(CONTRASTS)
    assert len(found) >= 3
    assert [pair for pair in found if pair["ratio"] < 4.5] == []


def test_light_and_dark_are_the_systems(viewer, opened):
    grounds = {
        scheme: opened(viewer.url, color_scheme=scheme).evaluate(
            "getComputedStyle(document.documentElement).backgroundColor.match(/[0-9]+/g).map(Number)"
        )
        for scheme in ("light", "dark")
    }
    assert min(grounds["light"]) > 200
    assert max(grounds["dark"]) < 60


@pytest.mark.parametrize("width", [360, 700, 950, 1280, 2560])
@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_wider_than_its_window(viewer, opened, name, width):
    page = opened(viewer.url + PAGES[name], width=width)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        """() => [...document.querySelectorAll("main *, .bar *")].filter((each) => {
            const box = each.getBoundingClientRect();
            return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1) && !each.closest("pre, svg");
        }).map((each) => each.outerHTML.slice(0, 120))"""
    )
    assert beyond == []


def test_lines_stay_short_enough_to_read_however_wide_the_window_is(viewer, opened):
    page = opened(viewer.url + SESSION, width=2560, height=1400)
    widest = page.evaluate("Math.max(...[...document.querySelectorAll('.prose')].map((each) => each.clientWidth))")
    letter = page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.6")
    assert widest / letter < 100


PLAIN = (
    '<!doctype html><link rel="stylesheet" href="/plain.css"><script src="/plain.js" defer></script><p>A line of text'
)


def plain_page() -> list[Route]:
    """A page of one line, with a style and a script that say nothing."""

    def file(text: str, kind: str) -> Callable[[Request], Response]:
        return lambda request: Response(text, media_type=kind)

    files = {
        "/favicon.ico": ("", "image/x-icon"),
        "/plain": (PLAIN, "text/html"),
        "/plain.css": ("", "text/css"),
        "/plain.js": ("", "text/javascript"),
    }
    return [Route(path, file(*said)) for path, said in files.items()]


def test_it_paints_within_200_ms(start, opened, now):
    """A machine that paints a page of one line late (an idle one within 50 ms) paints the others later as well."""
    viewer = start(*showcase(now - 3600 * SECOND), *others(now - 3600 * SECOND), routes=plain_page())

    def painted(address: str) -> float:
        page = opened(address, apart=True)
        time: float = page.evaluate(
            """() => new Promise((done) => new PerformanceObserver((seen) => {
                for (const each of seen.getEntries()) if (each.name === "first-contentful-paint") done(each.startTime);
            }).observe({type: "paint", buffered: true}))"""
        )
        page.context.close()
        return time

    addresses = (f"{viewer.url}/plain", viewer.url, viewer.url + SESSION)
    times = [tuple(map(painted, addresses)) for _ in range(4)]
    line, overview, session = (min(each) for each in zip(*times, strict=True))
    lateness = max(1.0, line / 50)
    assert overview < 200 * lateness, times
    assert session < 200 * lateness, times


def test_all_that_the_page_loads_is_its_own_and_small(viewer, opened):
    asked = []
    page = opened("about:blank")
    page.on("request", lambda request: asked.append(request.url))
    page.goto(viewer.url + SESSION)
    expect(page.locator("html.is-live")).to_have_count(1)
    assert all(url.startswith(viewer.url) for url in asked)
    sizes = [path.stat().st_size for path in Path(files.FOLDER).iterdir()]
    assert sum(sizes) < 100 * KIB
