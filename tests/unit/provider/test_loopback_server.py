"""The server itself: scripts sent byte for byte, connections, delays, its end, its command."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import openai
import pytest
from loopback import LoopbackServer
from provider_kit import HELLO, MODEL, Raw, chat, respond
from waiting import run_all

# Scripts


@pytest.mark.parametrize(
    ("body", "sent"),
    [({"a": 1}, b'{"a": 1}'), ([1], b"[1]"), ("\n\n ä", "\n\n ä".encode()), (b"\x00\xff", b"\x00\xff")],
)
def test_a_scripted_reply_is_sent_as_it_is(server, body, sent):
    server.script(body, status=418, headers={"X-Own": "yes", "x-request-id": "r"}, content_type="text/plain")
    with Raw(server) as reply:
        assert (reply.status, reply.read()) == (418, sent)
        assert (reply.headers["x-own"], reply.headers["content-type"]) == ("yes", "text/plain")
        assert reply.headers.get_all("x-request-id") == ["r"]
    with Raw(server) as reply:
        assert json.loads(reply.read())["object"] == "response"


def test_scripts_are_used_in_order_and_wait_for_their_path(server):
    server.script("models", path="/models")
    server.script("first")
    server.script("second")
    bodies = []
    for path in ("/v1/responses", "/v1/models", "/v1/responses"):
        with Raw(server, path) as reply:
            bodies.append(reply.read())
    assert bodies == [b"first", b"models", b"second"]


def test_a_scripted_stream_is_sent_chunk_by_chunk(server):
    chunks = [b": a\n\n", "data: 1\r\n\r\n", b"", b"data: 2"]
    server.script_stream(chunks)
    with socket.create_connection(urlsplit(server.base_url).netloc.split(":")) as peer:
        peer.sendall(b"GET /v1/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with peer.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert b"content-type: text/event-stream" in head
    assert body == b"5\r\n: a\n\n\r\nb\r\ndata: 1\r\n\r\n\r\n7\r\ndata: 2\r\n0\r\n\r\n"


def test_a_scripted_stream_can_be_cut(server):
    server.script_stream([b"data: 1\n\n", b"data: 2\n\n"], break_after=1)
    with pytest.raises(http.client.IncompleteRead) as cut, Raw(server) as reply:
        reply.read()
    assert cut.value.partial == b"data: 1\n\n"


def received(peer, last):
    """What arrives until these bytes end it."""
    got = b""
    while not got.endswith(last):
        got += peer.recv(1024)
    return got


def test_a_held_stream_sends_nothing_more_until_it_is_released(server):
    server.script_stream([b"data: 1\n\n", b"data: 2\n\n"], hold_after=1)
    with socket.create_connection(urlsplit(server.base_url).netloc.split(":")) as peer:
        peer.sendall(b"GET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n")
        received(peer, b"data: 1\n\n\r\n")
        peer.settimeout(0.05)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        peer.settimeout(10)
        server.release()
        assert received(peer, b"0\r\n\r\n") == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"


def test_a_held_stream_ends_when_the_client_goes_away(server):
    server.script_stream([b"data: 1\n\n", b"data: 2\n\n"], hold_after=1)
    with Raw(server) as reply:
        assert reply.readline() == b"data: 1\n"
        (held,) = connection_threads()
    held.join(10)
    assert not held.is_alive()


def test_chunk_delay_and_latency():
    with LoopbackServer(chunk_delay=0.02, latency=0.05) as server:
        server.script_stream([b"a", b"b", b"c"])
        started = time.monotonic()
        with Raw(server) as reply:
            assert reply.read() == b"abc"
        assert time.monotonic() - started >= 0.05 + 2 * 0.02


# The server itself


@pytest.fixture(autouse=True)
def threads_before():
    """The threads of other servers: the one that the whole test session shares."""
    _before.clear()
    _before.update(threading.enumerate())


_before = set()


def loopback_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("loopback") and thread not in _before]


def connection_threads():
    return [thread for thread in loopback_threads() if thread.name == "loopback-connection"]


def test_requests_are_recorded(client, server):
    client.post("/chat/completions?a=b%20c", cast_to=object, body={"model": MODEL, "messages": HELLO})
    (request,) = server.requests
    assert (request.method, request.path, request.query) == ("POST", "/v1/chat/completions", {"a": "b c"})
    assert request.headers["authorization"] == "Bearer any"
    assert request.body == {"model": MODEL, "messages": HELLO}
    client.models.list()
    assert server.requests[1].body is None


def test_a_connection_is_kept_for_the_next_request(client):
    for _ in range(3):
        chat(client)
        list(respond(client, stream=True))
    assert len(connection_threads()) == 1


def test_many_clients_at_once(client, server):
    def talk():
        first = respond(client)
        done.append(respond(client, previous_response_id=first.id).id)

    done = []
    threads = [threading.Thread(target=talk) for _ in range(8)]
    run_all(threads)
    assert len(set(done)) == 8
    assert len(server.requests) == 16


def test_close_leaves_no_thread_and_no_port(client, server):
    chat(client)
    server.script_stream([b"a", b"b"], hold_after=1)
    with Raw(server) as reply:
        assert reply.read(1) == b"a"
        assert len(connection_threads()) == 2
        server.close()
        with pytest.raises(http.client.IncompleteRead):
            reply.read()
    assert not loopback_threads()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(urlsplit(server.base_url).netloc.split(":"))
    server.close()


def test_close_ends_a_delay(client, server):
    outcome = []

    def ask():
        try:
            chat(client, "delay=60")
        except openai.APIConnectionError as error:
            outcome.append(type(error))

    asking = threading.Thread(target=ask)
    asking.start()
    while not server.requests:
        time.sleep(0.001)
    server.close()
    asking.join(10)
    assert outcome == [openai.APIConnectionError]  # its subclass APITimeoutError would be the client's own


def test_the_address_is_known_only_after_the_start():
    with pytest.raises(RuntimeError):
        LoopbackServer().base_url


def test_a_port_that_is_taken_is_reported(server):
    with pytest.raises(OSError):
        LoopbackServer(port=urlsplit(server.base_url).port).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(shared, number):
    command = [sys.executable, "-m", "otel_llm_sessions.demo.provider", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        assert chat(shared.with_options(base_url=line.split()[-1])).choices
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")
