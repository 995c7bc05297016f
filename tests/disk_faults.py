"""Disks that are full, and directories in which nothing can be written: with root's means, and without."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

NOWHERE = "/proc/nowhere"
"""A place where nobody, not even root, can make a directory or a file."""


@contextlib.contextmanager
def small_file_system(directory: Path) -> Iterator[Path]:
    """Mount a file system of 16 MB at a new directory; a plain directory for who may not mount."""
    directory.mkdir()
    mounted = _run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(directory))
    try:
        yield directory
    finally:
        if mounted:
            _run("umount", "-l", str(directory))


@contextlib.contextmanager
def filled_up(directory: Path) -> Iterator[None]:
    """Leave no room in a file system.

    Where it is not a small one of our own, no file of this process and of its children can grow instead.
    """
    if not directory.is_mount():
        with _no_growth(max(file.stat().st_size for file in directory.iterdir())):
            yield
        return
    filler = directory / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    yield
    filler.unlink()


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Let nobody write to a file system; where it is not one of our own, its directory leads nowhere meanwhile."""
    if directory.is_mount():
        assert _run("mount", "-o", "remount,ro", str(directory))
        yield
        assert _run("mount", "-o", "remount,rw", str(directory))
        return
    aside = directory.rename(directory.with_name(f"{directory.name}-aside"))
    directory.symlink_to(NOWHERE)
    try:
        yield
    finally:
        directory.unlink()
        aside.rename(directory)


def _run(*command: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


@contextlib.contextmanager
def _no_growth(size: int) -> Iterator[None]:
    """No file of this process and of its children grows beyond ``size`` bytes.

    Python ignores the signal that comes with it, so that a write fails as it does on a full disk.
    """
    processes = [os.getpid(), *_children()]
    before = [resource.prlimit(process, resource.RLIMIT_FSIZE) for process in processes]
    for process, (_, hard) in zip(processes, before):
        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        for process, limits in zip(processes, before):
            resource.prlimit(process, resource.RLIMIT_FSIZE, limits)


def _children() -> list[int]:
    lines = (path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    return [int(number) for line in lines for number in line.split()]
