"""``otel-llm-sessions completion``: a real bash completes the command, and knows no option that is not there."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import time

import pytest
from command_kit import environment, run
from programs import run_code

from otel_llm_sessions.cli import main, parser

BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "otel-llm-sessions"
    path.write_bytes(run("completion", "bash").stdout)
    return path


def completed(script, line: str) -> list[str]:
    """What a bash that has read the script offers for the line's last word."""
    words = line.split(" ")
    program = f"""
        source {script}
        COMP_WORDS=({" ".join(f"'{word}'" for word in words)}) COMP_CWORD={len(words) - 1}
        COMP_LINE='{line}' COMP_POINT={len(line)}
        function=$(complete -p otel-llm-sessions | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        "$function" otel-llm-sessions '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([BASH, "--norc", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return sorted(done.stdout.split())


@pytest.mark.skipif(not BASH, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("otel-llm-sessions ", ["completion", "demo", "export", "list", "show", "trace-id"]),
        ("otel-llm-sessions ex", ["export"]),
        ("otel-llm-sessions list --s", ["--service", "--since", "--sort"]),
        ("otel-llm-sessions list --sort t", ["tokens", "turns"]),
        ("otel-llm-sessions export --format ", ["jsonl", "otlp"]),
        ("otel-llm-sessions demo --t", ["--timeout"]),
        ("otel-llm-sessions completion ", ["bash", "fish", "zsh"]),
    ],
)
def test_bash_completes_commands_options_and_values(bash_script, line, offered):
    assert set(completed(bash_script, line)) >= set(offered)
    assert not set(completed(bash_script, line)) - set(offered) - {"view"}


@pytest.mark.slow
@pytest.mark.skipif(not BASH, reason="there is no bash")
def test_a_tab_in_an_interactive_bash_completes_the_line(bash_script):
    ours, theirs = pty.openpty()
    line = [BASH, "--norc", "--noprofile", "-i"]
    process = subprocess.Popen(
        line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(PS1="$ "), start_new_session=True
    )
    os.close(theirs)
    try:
        os.write(ours, f"source {bash_script}; echo rea''dy\n".encode())
        until(ours, b"ready")
        os.write(ours, b"otel-llm-sessions lis\t--sor\tdur\t")
        until(ours, b"otel-llm-sessions list --sort duration")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def until(ours: int, said: bytes) -> None:
    seen, end = b"", time.monotonic() + 60
    while said not in seen:
        assert time.monotonic() < end, seen
        seen += os.read(ours, 4096)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_option_of_every_command_is_known(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    commands = parser(whole=True)._subparsers._group_actions[0].choices
    options = {option for each in commands.values() for option in each._option_string_actions}
    assert "--timeout" in options
    assert {name for name in commands if name not in script} == set()
    assert {option for option in options if option.strip("-") not in script} == set()


def test_without_shtab_it_says_what_to_install():
    code = (
        "import sys; sys.modules['shtab'] = None; from otel_llm_sessions.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = run_code(code, "completion", "bash")
    assert (done.returncode, done.stdout) == (2, "")
    assert "completion needs more packages (shtab): pip install '.[view]'" in done.stderr
