"""The demo as a user runs it: a process of its own, judged by its exit code, its output and what it leaves behind."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_llm_sessions.demo.expectations import EXAMPLES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
]

MARK = "DEMO_UNDER_TEST"
PROGRAM = "import sys; from otel_llm_sessions.demo.runner import main; sys.exit(main(sys.argv[1:]))"
COMMAND = [sys.executable, "-c", PROGRAM]
UNSET = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OTEL_LLM_SESSIONS_TRACES")


@contextmanager
def demo(**settings):
    """The demo, started with a mark in its environment that all its processes inherit."""
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment |= settings | {MARK: uuid.uuid4().hex}
    process = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process, f"{MARK}={environment[MARK]}".encode()
    finally:
        process.terminate()
        process.communicate(timeout=20)


def running_with(mark):
    """The command lines of the running processes that have the mark in their environment."""
    return [line for folder in Path("/proc").glob("[0-9]*") if (line := command_line(folder, mark))]


def command_line(folder, mark):
    try:
        if mark in (folder / "environ").read_bytes().split(b"\0"):
            return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""  # it ended meanwhile, or is somebody else's
    return ""


def wait_until(condition, timeout=30.0):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s"
        time.sleep(0.02)
    return value


@pytest.mark.parametrize("mode", ["session", "turn"])
def test_the_demo_finds_every_session_of_every_example(mode):
    with demo(OTEL_LLM_SESSIONS_TRACES=mode) as (process, mark):
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 0, output
        wait_until(lambda: not running_with(mark), timeout=5)
    for example in EXAMPLES:
        headings = [line for line in output.splitlines() if line.startswith("session ")]
        assert sum(f"  {example.service}  " in line for line in headings) == example.sessions, output
    lines = [line for line in output.splitlines() if line.startswith(("session ", "├── ", "└── "))]
    assert all(re.search(r" tokens  +\$0\.\d{6}(  |$)", line) for line in lines), output
    assert output.count("found by chain") == 1
    assert output.count("POST /chat") == 6
    assert ("──▶ POST /chat" in output) == (mode == "session")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing_running(number):
    with demo() as (process, mark):
        wait_until(lambda: any(EXAMPLES[0].file in line for line in running_with(mark)))
        assert len(running_with(mark)) >= 4, "the demo, its viewer, its server and an example"
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
        wait_until(lambda: not running_with(mark), timeout=5)
    assert process.returncode == 128 + number
    assert "nothing is left running" in output


def test_without_a_model_server_the_demo_fails_and_says_why():
    with demo(OPENAI_BASE_URL="http://127.0.0.1:9", OPENAI_API_KEY="k") as (process, mark):
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 1
        wait_until(lambda: not running_with(mark), timeout=5)
    assert f"wrong: {EXAMPLES[0].file}: ended with exit code 1" in output
    assert "APIConnectionError" in output


def test_on_a_terminal_the_page_stays_there_until_ctrl_c():
    ours, theirs = pty.openpty()
    mark = f"{MARK}={uuid.uuid4().hex}"
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment[MARK] = mark.partition("=")[2]
    process = subprocess.Popen(COMMAND, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        seen = b""
        while not (found := re.search(rb"The sessions on a page: (http://127\.0\.0\.1:\d+/)", seen)):
            seen += os.read(ours, 65536)
        page = found[1].decode()
        with urllib.request.urlopen(page + "api/sessions", timeout=30) as answer:
            told = json.load(answer)["sessions"]
        assert len(told) == sum(example.sessions for example in EXAMPLES)
        with urllib.request.urlopen(page, timeout=30) as answer:
            assert b"<html" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        wait_until(lambda: not running_with(mark.encode()), timeout=5)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
