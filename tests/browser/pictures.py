"""Takes the pictures in README from the demo's data: ``.venv/bin/python tests/browser/pictures.py [FOLDER]``.

The demo's examples run as the demo runs them; the viewer shows what arrives, and Debian's Chromium photographs it.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, sync_playwright
from rich.console import Console

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

from browser_kit import viewing  # noqa: E402
from otlp_receiver import OtlpReceiver  # noqa: E402

from otel_llm_sessions.demo.passing import ENDPOINT, PROTOCOL  # noqa: E402
from otel_llm_sessions.demo.processes import Processes  # noqa: E402
from otel_llm_sessions.demo.runner import Demo  # noqa: E402
from otel_llm_sessions.view.query import Query  # noqa: E402
from otel_llm_sessions.view.spans import ReceivedSpan  # noqa: E402

IMAGES = ROOT / "docs" / "images"
MOST = 200_000
"""Bytes that a picture may have."""
MINUTE = 60 * 1_000_000_000
SHOWN = "streaming-chat"
"""The service whose session is shown."""


def demo_spans() -> list[ReceivedSpan]:
    """What the demo's examples send, as if the last of it had come a minute ago."""
    with Processes() as processes, OtlpReceiver() as receiver:
        os.environ |= {ENDPOINT: receiver.endpoint, PROTOCOL: "http/protobuf"}  # the demo passes on to there
        if not Demo(Console(), processes, 120.0).run(view=False):
            raise SystemExit("the demo found something wrong")
        spans = receiver.spans
    later = time.time_ns() - MINUTE - max(span.end for span in spans)
    return [replace(span, start=span.start + later, end=span.end + later) for span in spans]


def take(page: Page, address: str, picture: Path) -> None:
    """Photograph a page, as high as it is."""
    page.goto(address)
    page.wait_for_selector("html.is-live")
    page.evaluate("document.querySelector('footer.keys').remove()")
    height = page.evaluate("document.querySelector('main').lastElementChild.getBoundingClientRect().bottom")
    page.set_viewport_size({"width": 1200, "height": min(int(height) + 24, 1120)})
    page.screenshot(path=picture)
    size = picture.stat().st_size
    print(f"{picture}: {size:,} bytes")
    if size > MOST:
        raise SystemExit(f"{picture} has more than {MOST:,} bytes")


def main(folder: Path) -> None:
    """Run the demo, and take a picture of the list and one of a session."""
    folder.mkdir(exist_ok=True)
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with viewing(*demo_spans()) as viewer, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = browser.new_page(viewport={"width": 1200, "height": 700}, device_scale_factor=1.25, locale="en-GB")
        take(page, viewer.url, folder / "list.png")
        (session,) = viewer.database.sessions(Query(service=SHOWN)).sessions
        take(page, f"{viewer.url}/sessions/{quote(session.id, safe='')}", folder / "session.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
