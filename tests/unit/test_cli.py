"""``otel-llm-sessions trace-id``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from otel_llm_sessions import session_trace_id
from otel_llm_sessions.cli import main


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chat-42"], session_trace_id("chat-42")),
        (["chat-42", "--part", "2"], session_trace_id("chat-42", part=2)),
        (["--namespace", "shop", "chat-42"], session_trace_id("chat-42", namespace="shop")),
        (["--namespace=shop", "--part=3", "--", "-x"], session_trace_id("-x", namespace="shop", part=3)),
    ],
)
def test_it_prints_the_derived_trace_id(capsys, arguments, expected):
    assert main(["trace-id", *arguments]) == 0
    assert capsys.readouterr().out == expected + "\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trace-id"], "ID"),
        (["trace-id", "x", "--part", "0"], "greater than 0"),
        (["trace-id", "x", "--part", "two"], "'two' is not valid"),
        (["trace-id", "x", "--part", "²"], "'²' is not valid"),
        (["trace-id", "x", "--part", "1" * 5000], "greater than 0"),
        (["trace-id", ""], "'' is not valid: expected a printable string"),
        (["trace-id", "a\nb"], "expected a printable string"),
        (["trace-id", "x", "--parts", "2", "y"], "unrecognized arguments: "),
        (["no-such-command"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_arguments_are_refused_with_a_reason(capsys, arguments, said):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


def test_it_runs_as_a_module_without_importing_the_client():
    program = "import sys; from otel_llm_sessions.cli import main; main(); assert 'openai' not in sys.modules"
    command = [sys.executable, "-c", program, "trace-id", "X"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == session_trace_id("X")
