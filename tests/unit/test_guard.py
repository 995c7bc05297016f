"""Failures of this package end here; what is the application's goes on."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import functools
import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_llm_sessions.guard import is_applications, note_once, report, say


class TooLate(Exception):
    """A task queue's time limit."""


def raise_it(*arguments: Any) -> None:
    raise TooLate


def raise_it_from_below(number: int, frame: Any) -> None:
    raise_it()


def raise_it_without_a_trace(number: int, frame: Any) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    raise TooLate


def raise_it_without_a_trace_or_names(*arguments: Any) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    raise TooLate


def raise_and_forget_the_frame(number: int, frame: Any) -> None:
    del number, frame
    raise_it()


def spin() -> None:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        pass


class Limit:
    def __call__(self, number: int, frame: Any) -> None:
        raise TooLate

    def passed(self, number: int, frame: Any) -> None:
        raise TooLate


HANDLERS: dict[str, Callable[..., None]] = {
    "function": raise_it,
    "below": raise_it_from_below,
    "reset": raise_it_without_a_trace,
    "reset, nameless": raise_it_without_a_trace_or_names,
    "forgets": raise_and_forget_the_frame,
    "lambda": lambda number, frame: raise_it(),
    "partial": functools.partial(raise_it_from_below),
    "object": Limit(),
    "method": Limit().passed,
}


@contextlib.contextmanager
def alarm(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    gc.disable()  # what is raised amid a finalizer reaches nobody
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
@pytest.mark.parametrize("wait", [lambda: time.sleep(5), lambda: threading.Event().wait(5), spin])
def test_what_a_signal_handler_raises_is_the_applications(handler: Any, wait: Callable[[], Any]) -> None:
    with alarm(handler):
        with pytest.raises(TooLate) as raised:
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            wait()
        assert is_applications(raised.value)


def test_an_exception_of_the_same_class_that_no_handler_raises_is_a_failure() -> None:
    with pytest.raises(TooLate) as raised:
        raise_it()
    assert not is_applications(raised.value)


def test_what_another_thread_sets_is_the_applications() -> None:
    ours: list[bool] = []
    waiting = threading.Event()
    over = threading.Event()

    def work() -> None:
        try:
            waiting.set()
            while not over.wait(0.001):
                pass
        except TooLate as error:
            ours.append(is_applications(error))

    thread = threading.Thread(target=work)
    thread.start()
    waiting.wait()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TooLate))
    thread.join(10)
    over.set()
    assert ours == [True]


@pytest.mark.parametrize(
    "failing", [lambda: int("x"), lambda: [][1], lambda: {}["x"], lambda: raise_it(), lambda: 1 / 0]
)
def test_failures_are_not_the_applications(failing: Callable[[], Any]) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        failing()
    assert not is_applications(raised.value)


def test_what_the_library_hands_on_of_a_class_of_the_applications_is_a_failure() -> None:
    failed: concurrent.futures.Future[None] = concurrent.futures.Future()
    failed.set_exception(TooLate())
    with pytest.raises(TooLate) as raised:
        failed.result()
    assert not is_applications(raised.value)


def test_an_exception_that_was_never_raised_is_a_failure() -> None:
    assert not is_applications(TooLate())


def test_a_report_raises_what_is_the_applications_again(caplog: pytest.LogCaptureFixture) -> None:
    def guarded() -> None:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            time.sleep(5)
        except Exception as error:
            report("wait", error)

    with alarm(raise_it), pytest.raises(TooLate):
        guarded()
    assert not caplog.records


class Slow(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        time.sleep(5)


def test_what_a_signal_handler_raises_amid_a_logging_handler_is_the_applications() -> None:
    logger, slow = logging.getLogger("otel_llm_sessions"), Slow()
    logger.addHandler(slow)
    try:
        with alarm(raise_it), pytest.raises(TooLate):
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            say(logging.WARNING, "message")
    finally:
        logger.removeHandler(slow)


class Broken(logging.Handler):
    tried = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.tried += 1
        raise RuntimeError("no disk")


@pytest.mark.parametrize(
    "log",
    [
        lambda: report("do a thing", ValueError("x")),
        lambda: note_once("kind", "message %s", 1),
        lambda: say(logging.WARNING, "message"),
        lambda: say(logging.WARNING, "message %s"),
        lambda: say(logging.WARNING, "too %s many", 1, 2),
    ],
)
@pytest.mark.usefixtures("nothing_reported")
def test_a_logging_handler_that_raises_is_nobodys_exception(log: Callable[[], None], caplog) -> None:
    caplog.set_level(logging.DEBUG, "otel_llm_sessions")
    logger = logging.getLogger("otel_llm_sessions")
    handler = Broken()
    logger.addHandler(handler)
    try:
        log()
    finally:
        logger.removeHandler(handler)
    assert handler.tried == 1
