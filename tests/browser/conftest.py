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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in str(item.path.parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def now() -> int:
    return time.time_ns()


@pytest.fixture
def start() -> Iterator[Callable[..., Viewer]]:
    """Starts viewers over spans, as :func:`viewing` does."""
    with ExitStack() as running:
        yield lambda *spans, **options: running.enter_context(viewing(*spans, **options))


@pytest.fixture
def opened(chromium: Browser, start: Callable[..., Viewer]) -> Iterator[Callable[..., Page]]:
    """Opens pages; a page that says something is wrong with it fails the test."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def open_page(address: str, *, width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            **{"locale": "en-GB", "timezone_id": "Europe/Stockholm", **options},
        )
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type in ("error", "warning") else None)
        page.on("dialog", lambda dialog: (wrong.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def viewer(start: Callable[..., Viewer], now: int) -> Viewer:
    """A viewer with the session that has everything, and a few others."""
    return start(*showcase(now - 3600 * SECOND), *others(now - 3600 * SECOND))
