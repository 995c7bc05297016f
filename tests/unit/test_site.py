"""What a site is asked, whatever stands in the question."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from otel_llm_sessions.view.sources.site import Site


class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


def test_half_a_character_is_asked_for_as_a_question_mark():
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        site = Site(f"http://127.0.0.1:{server.server_address[1]}")
        assert site.get("/search", {"q": "a\ud83d\udcff é"}) == b"/search?q=a%3F%3F+%C3%A9"
        thread.join()
