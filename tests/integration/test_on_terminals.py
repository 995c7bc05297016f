"""``list``, ``show`` and ``export`` as processes: on a terminal of any size, in pipes, interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading

import pytest
from command_kit import COMMAND, conversation, environment, messages, on_terminal, root, run, turn, viewer
from web_kit import web

ODD = "\x1b[38;5;99m\x1b]0;owned\x07\x9b2J\x7f\u202eabc\u2066\u200e\ufeff\r\n\t\x00<script>alert(1)</script>[bold]"
STYLES = re.compile(rb"\x1b\[[0-9;]*m")
HARMLESS = re.compile(r"[\x20-\x7e\n]|[^\W_]|[─-╿…→▶“”]")
ID = "odd" + ODD.replace("\x00", "")
OTLP = ["export", ID, "--format", "otlp"]
LONG = "resp_" + "x" * 200


def odd_spans():
    """A session in which every attribute, name and word is odd, and long where it may be."""
    names = ("user.id", "llm_session.name", "llm_session.tags", "gen_ai.response.id", "odd.one")
    top = root(ID, "5e" * 16, **dict.fromkeys(names, ODD))
    said = dict.fromkeys(("gen_ai__response__model", "llm_session__source"), ODD)
    words = ODD + "word " * 200_000
    parts = [
        {"type": kind, "content": words if kind == "text" else ODD, "id": ODD, "name": ODD, "mime_type": ODD}
        for kind in ("text", "reasoning", "tool_call", "tool_call_response", "blob", "uri", "refusal", ODD)
    ]
    odd = turn(top, 1, status="ERROR", error__type=ODD, gen_ai__input__messages=messages((ODD, parts)), **said)
    return [top, odd, turn(top, 2, gen_ai__usage__cost__amount=1.5, gen_ai__usage__cost__currency=ODD)]


@pytest.fixture
def odd():
    with viewer(odd_spans()) as there:
        yield there


def shown(bytes_):
    """What a terminal would show, our own styles taken away; fails where a byte would do anything else."""
    text = STYLES.sub(b"", bytes_).decode().replace("\r\n", "\n")
    assert {char for char in text if not HARMLESS.match(char)} == set()
    return text


@pytest.mark.parametrize(
    "command",
    [["list"], ["show", ID], ["show", ID, "--content"], ["show", "no" + ID]],
    ids=("list", "show", "content", "unknown"),
)
def test_nothing_that_a_span_says_reaches_the_terminal_raw(odd, command):
    seen = on_terminal(*command, "--from", odd.url, errors_too=False)
    text = shown(seen.bytes)
    assert shown(seen.errors) is not None
    assert "\\x1b[38;5;99m" in text + seen.errors.decode()
    assert (len(text) > 1_000_000) == ("--content" in command)


@pytest.mark.parametrize(
    "command",
    [["list", "--json"], ["show", ID, "--json"], ["export", ID], OTLP],
    ids=("list", "show", "export", "otlp"),
)
def test_json_is_plain_ascii(odd, command):
    done = run(*command, "--from", odd.url)
    assert done.returncode == 0
    assert re.fullmatch(rb"[\x20-\x7e\n]+", done.stdout)
    assert json.loads(done.stdout)


@pytest.mark.slow
def test_colours_are_for_terminals_and_not_where_no_color_is_set():
    with viewer(conversation("s-1")) as there:
        assert STYLES.search(on_terminal("list", "--from", there.url).bytes)
        without = on_terminal("list", "--from", there.url, NO_COLOR="1").bytes
        assert not re.search(rb"\x1b\[[0-9;]*(3[0-9]|4[0-9]|9[0-9])[0-9;]*m", without)
        for settings in ({}, {"FORCE_COLOR": "1"}):
            assert b"\x1b" not in run("list", "--from", there.url, **settings).stdout
        assert b"\x1b" not in on_terminal("list", "--from", there.url, TERM="dumb").bytes


@pytest.mark.slow
def test_wide_ids_are_shortened_on_a_terminal_only():
    with viewer(conversation(LONG)) as there:
        for command in (["list"], ["show", LONG]):
            seen = on_terminal(*command, "--from", there.url)
            told = [line for line in seen.text.splitlines() if "http://" not in line]  # an address stays one
            assert not any(LONG in line for line in told)
            assert any("resp_x" in line for line in told)
            assert LONG in run(*command, "--from", there.url).stdout.decode()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [30, 80, 120])
def test_every_line_fits_the_terminal(columns):
    named = conversation(LONG, **{"user.id": "u" * 70, "llm_session.name": "refund " * 9})
    with viewer([*named, *conversation("s-1", trace="6f")]) as there:
        for command in (["list"], ["show", LONG], ["show", LONG, "--content"]):
            seen = on_terminal(*command, "--from", there.url, columns=columns)
            assert seen.status == 0
            lines = [line for line in shown(seen.bytes).splitlines() if "http://" not in line]  # an address stays one
            assert max(map(len, lines)) <= columns


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal_while_pages_are_read_and_gone_then():
    spans = [span for at in range(600) for span in conversation(f"s-{at}", turns=1, trace=f"{at:04x}")]
    with viewer(spans) as there:
        seen = on_terminal("list", "--limit", "600", "--from", there.url, errors_too=True)
        assert "500 sessions" in STYLES.sub(b"", seen.bytes).decode()
        assert b"\x1b[?25h" in seen.bytes
        assert seen.bytes.rstrip().endswith(shown_last(seen))
        assert run("list", "--limit", "600", "--from", there.url).stderr == b""


def shown_last(seen):
    return seen.bytes.rstrip().splitlines()[-1]


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "cp1252"])
def test_an_output_that_is_not_utf_8_gets_signs_of_its_own(encoding):
    top = root("Ärger 你", "5e" * 16)
    said = turn(top, 1, gen_ai__input__messages=messages(("user", "Grüße 你好 😀")))
    with viewer([top, said]) as there:
        done = run("show", "Ärger 你", "--content", "--from", there.url, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    assert "\\u4f60" in text
    assert "\\U0001f600" in text
    assert ("Ä" in text) == (encoding != "ascii")
    assert "1,000 -> 10 tokens" in text


@pytest.mark.slow
def test_in_the_c_locale_nothing_breaks():
    with viewer(conversation("Ärger")) as there:
        for settings in ({"LANG": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
            done = run("list", "--from", there.url, **settings)
            assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_a_reader_that_has_had_enough_ends_the_command_without_a_word():
    # More than any pipe holds.
    spans = [span for at in range(250) for span in conversation(f"s-{at}" + "x" * 2_000, turns=1, trace=f"{at:04x}")]
    with viewer(spans) as there:
        for command in ("list --limit 1000", "list --json --limit 1000", "export --since 1h"):
            line = [*COMMAND, *command.split(), "--from", there.url]
            read, write = os.pipe()
            process = subprocess.Popen(line, stdout=write, stderr=subprocess.PIPE, env=environment())
            os.close(write)
            os.read(read, 10)
            os.close(read)
            assert (process.communicate(timeout=60)[1], process.returncode) == (b"", 141)


def test_an_interrupt_ends_the_command_without_a_traceback():
    asked, go_on = threading.Event(), threading.Event()

    def answer(_):
        asked.set()
        go_on.wait(60)
        return 200, b'{"sessions": []}'

    with web(answer) as there:
        line = [*COMMAND, "list", "--from", there.url]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)
        go_on.set()
    assert (said, process.returncode) == ((b"", b""), 130)


def test_a_full_disk_is_one_line():
    with viewer(conversation("s-1")) as there, open("/dev/full", "w") as full:
        line = [*COMMAND, "list", "--from", there.url]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=60)
    assert done.returncode == 74
    assert done.stderr == b"otel-llm-sessions list: cannot write: No space left on device\n"
