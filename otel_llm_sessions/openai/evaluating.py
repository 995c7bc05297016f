"""Puts judgements where people look: a span in the session's trace, and an event that belongs to the turn's span."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Link, set_span_in_context

from otel_llm_sessions import semconv
from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.beside import beside
from otel_llm_sessions.openai.course import PATIENCE
from otel_llm_sessions.openai.flow import adrive, drive
from otel_llm_sessions.openai.held import HELD
from otel_llm_sessions.openai.question import Question
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.sessions.keys import response_key, session_key
from otel_llm_sessions.sessions.link import SessionId, SessionLink
from otel_llm_sessions.sessions.resolver import NONE, Resolution
from otel_llm_sessions.sessions.sources import about_in, parent_in
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.telemetry.evaluation import Evaluation
from otel_llm_sessions.telemetry.events import EventsSource, event_of
from otel_llm_sessions.traces.below import below_span
from otel_llm_sessions.traces.ids import end_early
from otel_llm_sessions.traces.links import span_context
from otel_llm_sessions.traces.opening import NOWHERE
from otel_llm_sessions.traces.plan import NO_PLAN, Plan

NO_SERVER = ""
"""Whose ids are asked for: those of any server, which are one of a kind."""


class SessionEvaluator:
    """Takes the judgements of a running instrumentation."""

    def __init__(self, runtime: Runtime, events: EventsSource) -> None:
        """Args: the instrumentation; where its events go."""
        self._runtime = runtime
        self._events = events

    def evaluate(self, evaluation: Evaluation, session_id: SessionId | None, context: Context) -> bool:
        """Emit a judgement; return whether what it is of is known.

        Args:
            evaluation: the judgement.
            session_id: the session; None for that of the response.
            context: where it is given.
        """
        if not is_instrumentation_enabled():
            return False
        course = _Judging(self._runtime, self._events, evaluation, session_id, context)
        drive(course)
        return course.is_taken

    async def aevaluate(self, evaluation: Evaluation, session_id: SessionId | None, context: Context) -> bool:
        """As ``evaluate``, for callers on an event loop."""
        if not is_instrumentation_enabled():
            return False
        course = _Judging(self._runtime, self._events, evaluation, session_id, context)
        await adrive(course)
        return course.is_taken


class _Judging:
    """The course of what is asked for one judgement (see ``course``), whose answers may come late, too."""

    def __init__(
        self,
        runtime: Runtime,
        events: EventsSource,
        evaluation: Evaluation,
        session_id: SessionId | None,
        context: Context,
    ) -> None:
        """Begin; nothing has been asked yet."""
        self.runtime = runtime
        self.waited = 0.0
        self.within = 0.0
        self.is_taken = True
        """Whether it is emitted, as far as that is known yet."""
        self.settled: Answer[None] = Answer()
        """Answered when nothing more is to be heard; no turn waits for it (see ``held``)."""
        self._events = events
        self._evaluation = evaluation
        self._given = session_id
        self._context = context
        self._placer = runtime.homes.get().placer
        self._meant: SessionLink | None = None
        """The turn that is meant, if it is known."""
        self._resolution = NONE
        self._plan: Plan | None = None
        self._number = 0
        self.questions = self._questions()

    @property
    def _asked_for(self) -> list[str]:
        response_id, session_id = self._evaluation.response_id, self._given
        keys = [response_key(response_id, NO_SERVER)] if response_id else []
        # A chain that began without an id is named by its first response, and known by that alone.
        return keys if session_id is None else [*keys, session_key(session_id), response_key(session_id, NO_SERVER)]

    def _questions(self) -> Generator[Question, None, None]:
        looked_up = self.runtime.asked.ask(self._asked_for, self.within)
        yield Question(looked_up)
        self.is_taken = self._is_found(looked_up.result())
        if self.is_taken:
            claim = self._claim()
            if claim is not None:
                yield Question(claim)
            self._emit(claim is not None and claim.result())

    def _is_found(self, answers: Sequence[SessionLink | None]) -> bool:
        """Take in what is known; return whether it is enough to say of which session the judgement is."""
        response_id, session_id = self._evaluation.response_id, self._given
        newest = _newest(session_id, answers[-2:]) if session_id is not None else None
        meant = answers[0] if response_id else None
        if meant is None and newest is not None and response_id and newest.response_id == response_id:
            meant = newest
        if session_id is None:
            if meant is None:
                return False
            session_id = meant.session_id
        elif meant is not None and meant.session_id != session_id:
            return False  # somebody else's
        self._meant, before = meant, meant or newest
        source = "context" if before is None else before.source
        resolution = Resolution(session_id, source, source, 1 if before is None else before.turn, before, None)
        self._resolution = resolution.described(about_in(self._context, session_id))
        return True

    def _claim(self) -> Answer[bool] | None:
        """Decide where the span stands, and claim the root that has to be opened for it."""
        plan, session_id = NO_PLAN, self._resolution.session_id
        if self.runtime.spans != "annotate":
            plan = self._placer.plan_beside(self._resolution, self._evaluation.time)
        if plan.opening is not None and (parent := parent_in(self._context, session_id)):
            plan = replace(plan, parent=parent)
        self._plan = plan
        return self.runtime.asked.ask_claim(plan.opening.claim_key, self.within) if plan.opening is not None else None

    # --- what is emitted ------------------------------------------------------------------------------------

    def _emit(self, is_owner: bool) -> None:
        meant, evaluation = self._meant, self._evaluation
        said = {semconv.SESSION_ID: str(self._resolution.session_id), **evaluation.attributes()}
        span_in = self._span(is_owner, said) if self.runtime.spans != "annotate" else None
        judged = below_span(meant.span) if meant is not None and meant.span.span_id else span_in
        try:
            event = event_of(semconv.EVALUATION_RESULT, said, judged or NOWHERE, evaluation.time)
            self._events.get().emit(event)
        except Exception as error:  # a processor of the application's
            report("emit an evaluation", error)

    def _span(self, is_owner: bool, said: dict[str, Any]) -> Context | None:
        """Emit the span; return its context, None if it cannot be made."""
        meant, evaluation = self._meant, self._evaluation
        context = self._placer.beside(self._plan or NO_PLAN, is_owner, meant)
        target, span = span_context(meant.span) if meant is not None else None, None
        try:
            span = self.runtime.homes.get().tracer.start_span(
                evaluation.span_name,
                context=context,
                attributes={**said, **self._resolution.about.attributes()},
                links=[Link(target)] if target is not None and target.is_valid else [],
                start_time=evaluation.time,
            )
            span.end(evaluation.time)
            return set_span_in_context(span, NOWHERE)
        except Exception as error:  # a sampler or a processor of the application's
            report("emit an evaluation", error)
            return None
        finally:
            end_early(span)  # interrupted amid it

    # --- beside the application -----------------------------------------------------------------------------

    def go_on_beside(self, question: Question) -> None:
        """Emit it without an answer where that can be; else once the answer comes."""
        self.within = 0.0
        if self._plan is not None:
            return self._emit_unclaimed(question.answer)
        if self._given is not None:
            # Below the newest part that this process knows: what the answer says comes too late for it.
            self.is_taken = self._is_found(self.runtime.asked.known(self._asked_for))
            return self._emit_unclaimed(self._claim()) if self.is_taken else None
        self._number = HELD.add(self)
        beside.at(time.monotonic() + PATIENCE, partial(HELD.give_up, self._number))
        return self._await(question)

    def _emit_unclaimed(self, claim: Answer[bool] | None) -> None:
        self._emit(False)
        if claim is not None:
            claim.when_done(lambda _: beside.soon(lambda: self._follow(claim)))

    def _follow(self, claim: Answer[bool]) -> None:
        if claim.result() and self._plan is not None:
            self._placer.open(self._plan)

    def _await(self, question: Question) -> None:
        question.answer.when_done(lambda _: beside.soon(self._go_on))

    def _go_on(self) -> None:
        if self.settled.is_done:
            return
        try:
            question = next(self.questions, None)
            while question is not None and question.answer.is_done:
                question = next(self.questions, None)
        except Exception as error:
            report("evaluate", error)
            question = None
        if question is None:
            self._let_go()
        else:
            self._await(question)

    def _let_go(self) -> None:
        self.settled.settle_once(None)
        HELD.remove(self._number)

    def hear(self) -> None:
        """See ``Awaiting``: no turn waits for it."""

    def hasten(self) -> None:
        """See ``Awaiting``: there is nothing that it would wait for but answers."""

    def give_up(self) -> None:
        """Say nothing of a response of which nothing is known in time."""
        self._let_go()


def _newest(session_id: SessionId, answers: Sequence[SessionLink | None]) -> SessionLink | None:
    """Return what is known of a session: by itself, else by the response that it may be named by."""
    return next((link for link in answers if link is not None and link.session_id == session_id), None)
