"""How a call goes, and the one place where the application waits for anything of ours.

request → evidence → answers → resolve → place → span → send → observe → learn → end: ``begin`` takes a call from its
request to its span, whatever has to be asked for that; the edges that send the request and observe the reply
(``patch``, ``watch``) have what the call leaves behind delivered. Each is there twice, for blocking callers and for
callers on an event loop; what they do is the same.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import Protocol

from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.claims import ask_put
from otel_llm_sessions.openai.course import AskProvider, Course
from otel_llm_sessions.openai.decide import planned, resolved
from otel_llm_sessions.openai.going_on import goes_on
from otel_llm_sessions.openai.outbox import not_recorded, take
from otel_llm_sessions.openai.question import BUDGET, Question
from otel_llm_sessions.openai.routes import CHAT, RESPONSES
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.openai.standing import start, start_span
from otel_llm_sessions.sessions.link import Record, SessionLink
from otel_llm_sessions.sessions.resolver import NEW, NOTHING_TOLD, lookup_keys, only_key
from otel_llm_sessions.traces.plan import NO_PLAN


class Questions(Protocol):
    """What is asked in order to begin something, in the order in which it is asked."""

    runtime: Runtime
    waited: float
    """Seconds for which the application has been held up."""
    within: float
    """How long what asks may hold the caller up itself, which is quicker than to wait afterwards."""
    questions: Generator[Question, None, None]

    def go_on_beside(self, question: Question) -> None:
        """Begin without an answer, which comes late; what comes of it is done beside the application."""
        ...


def begin(call: Call, ask_provider: AskProvider | None = None) -> None:
    """Look up the session of a call, and start its span.

    Waits no longer than the call's budget: what is not known then is amended when it is.

    Args:
        call: the call.
        ask_provider: asks the provider, if it may be asked.
    """
    if call.runtime.never_waits and ask_provider is None:
        return begin_at_once(call)
    course = Course(call, ask_provider)
    drive(course)
    call.waited = course.waited
    return None


async def abegin(call: Call, ask_provider: AskProvider | None = None) -> None:
    """As ``begin``, for callers on an event loop."""
    if call.runtime.never_waits and ask_provider is None:
        return begin_at_once(call)
    course = Course(call, ask_provider)
    await adrive(course)
    call.waited = course.waited
    return None


def drive(course: Questions) -> None:
    """Wait for what is asked, as long as the budget lasts."""
    began = time.monotonic()
    course.within = _left(course, began)
    for question in course.questions:
        left = 0.0 if question.is_beside else _left(course, began)
        if not (question.answer.is_done or (left > 0 and question.answer.wait(left))):
            course.go_on_beside(question)
            break
        course.within = left
    course.waited = time.monotonic() - began


async def adrive(course: Questions) -> None:
    """As ``drive``, for callers on an event loop."""
    began = time.monotonic()
    for question in course.questions:
        left = 0.0 if question.is_beside else _left(course, began)
        if not (question.answer.is_done or (left > 0 and await question.answer.wait_on_loop(left))):
            course.go_on_beside(question)
            break
    course.waited = time.monotonic() - began


def _left(course: Questions, began: float) -> float:
    """Return how many seconds the application may still wait; none for a store that is slow."""
    return max(0.0, min(course.runtime.asked.patience, began + BUDGET - time.monotonic()))


def begin_at_once(call: Call) -> None:
    """Begin a call where nobody has to be waited for: most often, and the shortest way."""
    request, runtime = call.request, call.runtime
    evidence, memory, store = request.evidence, runtime.memory, runtime.store
    # Most chat calls belong to no session and, as far as their requests say, start none.
    if evidence is NOTHING_TOLD:
        route = request.match.route
        if route is CHAT:
            return start_span(call, call.around)
        # A response that nothing surrounds is the first turn of a session, and nobody says more of that.
        if route is RESPONSES and not (call.around or request.parent or request.user):
            return start(call, NEW, NO_PLAN, False)
    answers: Sequence[SessionLink | None] = ()
    if memory is not None and (key := evidence.key or only_key(evidence)):
        previous = memory.find(key)
        if previous is not None and goes_on(call, previous):
            return None
        answers = (previous,)
    elif keys := lookup_keys(evidence):
        answers = store.get_all(keys)
    resolution = resolved(call, answers)
    plan = planned(call, resolution)
    return start(call, resolution, plan, plan.opening is not None and store.claim(plan.opening.claim_key))


def deliver(call: Call) -> None:
    """Record what a call has left behind; waits no longer than the call's budget."""
    runtime, outbox = call.runtime, call.outbox
    while outbox and (record := take(call)) is not None:
        try:
            if runtime.never_waits and call.request.history is None:
                runtime.store.put(*record)
            else:
                _record(call, record)
        except Exception as error:
            not_recorded(runtime, error)


def _record(call: Call, record: Record) -> None:
    began, left = time.monotonic(), _budget_left(call)
    written = ask_put(call, record, left)
    if left > 0:
        written.wait(began + left - time.monotonic())
    call.waited += time.monotonic() - began


async def adeliver(call: Call) -> None:
    """As ``deliver``, for callers on an event loop."""
    if call.runtime.never_waits:
        return deliver(call)
    while (record := take(call)) is not None:
        try:
            await _arecord(call, record)
        except Exception as error:
            not_recorded(call.runtime, error)
    return None


async def _arecord(call: Call, record: Record) -> None:
    runtime, began, left = call.runtime, time.monotonic(), _budget_left(call)
    if left > 0 and not runtime.may_be_late and call.request.history is None:  # a store of the application's own
        await runtime.store.aput(*record)
    else:
        written = ask_put(call, record)
        if left > 0:
            await written.wait_on_loop(left)
    call.waited += time.monotonic() - began


def _budget_left(call: Call) -> float:
    return max(0.0, min(call.runtime.asked.patience, BUDGET - call.waited))
