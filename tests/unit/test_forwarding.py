"""Passing on: where to, with which credentials, and what is said when it fails."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from waiting import until

from otel_llm_sessions.view.server import forwarding as forwarding_module
from otel_llm_sessions.view.server.forwarding import Forwarding


@contextmanager
def collector(*statuses: int) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A receiver that answers these, then 200; its host and port, and the paths and credentials that it was sent."""
    taken: list[tuple[str, str | None]] = []
    answers = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            taken.append((self.path, self.headers["Authorization"]))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_password_is_sent_and_not_said(capsys):
    with collector(404) as (host, taken):
        forwarding = Forwarding(f"http://us%40er:secret@{host}/prefix/")
        forwarding.put("/v1/traces", "application/json", "", b"{}")
        forwarding.start()
        until(lambda: taken)
        forwarding.close(10.0)
    assert taken == [("/prefix/v1/traces", "Basic dXNAZXI6c2VjcmV0")]
    said = capsys.readouterr().err
    assert said == (
        f"--forward http://{host}/prefix/ fails, what arrives is not passed on: it answers 404\n"
        f"--forward http://{host}/prefix/: 1 request was not passed on in all\n"
    )


def test_a_path_is_written_as_http_asks_and_what_cannot_be_sent_does_not_end_the_thread(capsys):
    with collector(301) as (host, taken):
        forwarding = Forwarding(f"http://{host}/ünï code/%2F")
        for media_type in ("text/plain", "odd\nline", "text/plain"):
            forwarding.put("/v1/traces", media_type, "", b"")
        forwarding.close(0.0)  # what cannot be sent is not tried again then
        forwarding.start()
        until(lambda: len(taken) == 2)
    assert taken == [("/%C3%BCn%C3%AF%20code/%2F/v1/traces", None)] * 2
    assert capsys.readouterr().err.endswith("not passed on: it answers 301\n"), "a redirection takes nothing"


@pytest.mark.parametrize(
    "url", ["user:secret@collector:4318", "http://user:secret@", "http://u:secret@[::1", "http://u:secret@c:x/"]
)
def test_what_is_no_address_is_refused_without_showing_it(url):
    with pytest.raises(ValueError, match="--forward is not valid: expected") as told:
        Forwarding(url)
    assert "secret" not in str(told.value)


def test_what_waits_when_the_viewer_ends_is_not_lost_without_a_word(capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        forwarding = Forwarding(url)
        forwarding.put("/v1/traces", "application/json", "", b"{}")
        forwarding.start()
        connection, _ = silent.accept()
        forwarding.close(0.0)
        said = capsys.readouterr().err
        connection.close()
    assert said == f"--forward {url}: 1 request was not passed on in all\n"


def test_who_interrupts_the_end_is_told_too(capsys, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        forwarding = Forwarding(address)
        forwarding.put("/v1/traces", "application/json", "", b"{}")
        forwarding.start()
        connection, _ = silent.accept()
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(threading.Thread, "join", interrupted)
            forwarding.close()
        said = capsys.readouterr().err  # before the thread goes on and says that it has failed
        connection.close()
    assert f"--forward {address}: 1 request was not passed on in all\n" in said


def test_when_the_viewer_ends_what_waits_is_sent_first(capsys):
    with collector(404) as (host, taken):
        forwarding = Forwarding(f"http://{host}")
        for _ in range(40):
            forwarding.put("/v1/traces", "application/json", "", b"{}")
        forwarding.start()
        forwarding.close(60.0)
        until(lambda: len(taken) == 40)
    assert capsys.readouterr().err.endswith(f"\n--forward http://{host}: 1 request was not passed on in all\n")


def test_what_is_tried_again_holds_nobody_up_when_the_viewer_ends(capsys, monkeypatch):
    monkeypatch.setattr(forwarding_module, "WAITS", (3600.0,))
    with collector(503) as (host, taken):
        forwarding = Forwarding(f"http://{host}")
        for _ in range(3):
            forwarding.put("/v1/traces", "application/json", "", b"{}")
        forwarding.start()
        until(lambda: taken)
        forwarding.close(60.0)
        until(lambda: len(taken) == 3)
    assert "1 request was not passed on in all" in capsys.readouterr().err
