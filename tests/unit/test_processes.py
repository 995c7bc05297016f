"""Child processes end with their owner, whatever they do."""

import os
import signal
import sys
import time

import pytest

from otel_llm_sessions.demo.processes import Interrupted, Processes, TimedOut

STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
signal.pause()
"""


def python(code):
    return [sys.executable, "-c", code]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid):
    """Whether the process is gone soon: SIGKILL was sent, but nobody here can wait for a grandchild."""
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_running(pid)


def test_finish_returns_what_was_printed_errors_included():
    with Processes() as processes:
        process = processes.start(python("import sys; print('out'); sys.exit('bad')"), os.environ)
        # The two streams are one pipe; in which order a process flushes them at its end is its own affair.
        assert sorted(processes.finish(process, timeout=20).split()) == ["bad", "out"]
        assert process.returncode == 1


def test_the_environment_is_the_given_one():
    with Processes() as processes:
        process = processes.start(python("import os; print(os.environ['ONLY'])"), {"ONLY": "this"})
        assert processes.finish(process, timeout=20) == "this\n"


def test_the_first_line_comes_while_the_process_goes_on():
    with Processes() as processes:
        process = processes.start(python("print('ready', flush=True); input(); "), os.environ)
        assert processes.first_line(process, timeout=20) == "ready"


def test_a_process_that_takes_too_long_is_given_up_with_its_output():
    with Processes() as processes:
        process = processes.start(["sh", "-c", "echo so far; exec sleep 60"], os.environ)
        with pytest.raises(TimedOut, match="so far"):
            processes.finish(process, timeout=0.5)
    assert process.returncode == -signal.SIGTERM


def test_whoever_ignores_sigterm_and_whatever_he_started_is_ended_too(monkeypatch):
    monkeypatch.setattr("otel_llm_sessions.demo.processes.GRACE", 0.2)
    with Processes() as processes:
        process = processes.start(python(STUBBORN), os.environ)
        grandchild = int(processes.first_line(process, timeout=20))
        assert is_running(process.pid)
        assert is_running(grandchild)
    assert process.returncode == -signal.SIGKILL
    assert ends(grandchild)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting_and_the_processes(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as interrupted:
        with Processes() as processes:
            process = processes.start(python("import signal; signal.pause()"), os.environ)
            signal.raise_signal(number)
            processes.finish(process, timeout=20)
    assert interrupted.value.number == number
    assert not is_running(process.pid)
    assert signal.getsignal(number) is before
