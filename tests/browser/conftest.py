"""The viewer's page as a person has it: a real server on loopback, and Debian's Chromium."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from browser_kit import Viewer, viewing
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from showcase import others, showcase
from viewer_kit import SECOND

CHROMIUM = "/usr/bin/chromium"
HERE = {"locale": "en-GB", "timezone_id": "Europe/Stockholm"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in str(item.path.parent):
            item.add_marker(pytest.mark.browser)
    # By far the longest: the other process has all the others meanwhile.
    items.sort(key=lambda item: item.path.name != "test_pictures.py")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def visitor(chromium: Browser) -> Iterator[BrowserContext]:
    """Where pages open that need nothing of their own: as one of the site is always there, they start no process."""
    context = chromium.new_context(**HERE)
    kept = context.new_page()
    kept.route("http://127.0.0.1/", lambda route: route.fulfill(body=""))
    kept.goto("http://127.0.0.1/")
    yield context
    context.close()


@pytest.fixture(scope="session")
def now() -> int:
    return time.time_ns()


@pytest.fixture
def start() -> Iterator[Callable[..., Viewer]]:
    """Starts viewers over spans, as :func:`viewing` does."""
    with ExitStack() as running:
        yield lambda *spans, **options: running.enter_context(viewing(*spans, **options))


@pytest.fixture
def opened(chromium: Browser, visitor: BrowserContext, start: Callable[..., Viewer]) -> Iterator[Callable[..., Page]]:
    """Opens pages, in contexts of their own where they are `apart` or have options; what one says is wrong fails."""
    contexts: list[BrowserContext] = []
    pages: list[Page] = []
    wrong: list[str] = []

    def open_page(address: str, *, width: int = 1280, height: int = 900, apart: bool = False, **options: Any) -> Page:
        context = visitor
        if apart or options:
            context = chromium.new_context(**{**HERE, **options})
            contexts.append(context)
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type in ("error", "warning") else None)
        page.on("dialog", lambda dialog: (wrong.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(address)
        return page

    yield open_page
    for page in pages:
        page.close()
    for context in contexts:
        context.close()
    visitor.clear_cookies()
    assert wrong == []


@pytest.fixture
def viewer(start: Callable[..., Viewer], now: int) -> Viewer:
    """A viewer with the session that has everything, and a few others."""
    return start(*showcase(now - 3600 * SECOND), *others(now - 3600 * SECOND))
