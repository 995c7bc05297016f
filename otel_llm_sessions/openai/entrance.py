"""Puts ``session(...)`` into its session's trace."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from opentelemetry.context import Context, set_value
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import INVALID_SPAN, get_current_span

from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.beside import beside
from otel_llm_sessions.openai.flow import adrive, drive
from otel_llm_sessions.openai.question import Question
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.sessions.inside import ROOT_CONTEXT_KEY, SessionRoot, is_session_root
from otel_llm_sessions.sessions.keys import session_key
from otel_llm_sessions.sessions.link import SessionId, SessionLink
from otel_llm_sessions.sessions.resolver import Evidence, Resolution, resolve
from otel_llm_sessions.sessions.sources import Given, about_in, parent_in
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.telemetry.span import outside
from otel_llm_sessions.traces.plan import Plan


class SessionEntrance:
    """Opens the trace of a session that the application names, before its first call.

    Only where no span is current: then everything started inside becomes part of the session's trace.
    """

    def __init__(
        self, runtime: Runtime, on_use: Callable[[], None], on_use_in_generator: Callable[[], None] = lambda: None
    ) -> None:
        """Serve a running instrumentation.

        Args:
            runtime: the instrumentation.
            on_use: called before a session is entered.
            on_use_in_generator: called besides where a generator enters it.
        """
        self._runtime = runtime
        self._on_use = on_use
        self._on_use_in_generator = on_use_in_generator

    def prepare(self) -> None:
        """Get ready for a block of a generator's, which opens no trace: its calls do."""
        try:
            self._on_use()
            self._on_use_in_generator()
        except Exception as error:
            report("open a session", error)

    def enter(self, session_id: str, context: Context) -> Context:
        """Return ``context`` inside the session's trace; unchanged under another span, or with ``TRACES=turn``."""
        try:
            entering = self._entering(session_id, context)
            if entering is None:
                return context
            drive(entering)
            return entering.context
        except Exception as error:
            report("open a session", error)
            return context

    async def aenter(self, session_id: str, context: Context) -> Context:
        """As ``enter``, for callers on an event loop."""
        try:
            entering = self._entering(session_id, context)
            if entering is None:
                return context
            await adrive(entering)
            return entering.context
        except Exception as error:
            report("open a session", error)
            return context

    def _entering(self, session_id: str, context: Context) -> _Entering | None:
        """Return what opens the session without a call of ours in flight around it; None under a span."""
        self._on_use()
        if not self._runtime.is_by_session or not is_instrumentation_enabled():
            return None
        around, span = outside(context, get_current_span(context))
        current = span.get_span_context()
        if current.is_valid and not is_session_root(around, current):
            return None
        return _Entering(self._runtime, SessionId(session_id), around)


class _Entering:
    """The course of what is asked to enter one block (see ``course``), whose answers may come late, too."""

    def __init__(self, runtime: Runtime, session_id: SessionId, context: Context) -> None:
        """Begin; nothing has been asked yet.

        Args:
            runtime: the instrumentation.
            session_id: the session.
            context: where the block is entered.
        """
        self.runtime = runtime
        self.waited = 0.0
        self.within = 0.0
        self.context = context
        """The context inside, once there is no more to be waited for."""
        self._session_id = session_id
        self._about = about_in(context, session_id)
        self._parent = parent_in(context, session_id)
        self._placer = runtime.homes.get().placer
        self._decided: tuple[Resolution, Plan] | None = None
        self.questions = self._questions()

    def _questions(self) -> Generator[Question, None, None]:
        looked_up = self.runtime.asked.ask((session_key(self._session_id),), self.within)
        yield Question(looked_up)
        claim = self._claim(looked_up.result())
        if claim is not None:
            yield Question(claim)
        self._enter(claim is not None and claim.result())

    def _claim(self, answers: Sequence[SessionLink | None]) -> Answer[bool] | None:
        """Decide where the block stands, and claim the root that has to be opened for it."""
        evidence = Evidence(Given(self._session_id, "context"))
        resolution = resolve(evidence, answers, starts_session=False).described(self._about)
        plan = self._placer.plan(resolution, False)
        if plan.opening is not None and self._parent:
            plan = replace(plan, parent=self._parent)
        self._decided = resolution, plan
        return self.runtime.asked.ask_claim(plan.opening.claim_key, self.within) if plan.opening is not None else None

    def _enter(self, is_owner: bool) -> None:
        assert self._decided is not None
        resolution, plan = self._decided
        placement, context, _ = self._placer.place(resolution, plan, is_owner, self.context, INVALID_SPAN, False)
        if placement.trace is not None:
            root = SessionRoot(str(self._session_id), get_current_span(context))
            self.context = set_value(ROOT_CONTEXT_KEY, root, context)

    def go_on_beside(self, question: Question) -> None:
        """Enter below the newest part that this process knows; claim and root follow."""
        self.within = 0.0
        claim = question.answer if self._decided is not None else self._claim(())
        self._enter(False)
        if claim is not None:
            claim.when_done(lambda _: beside.soon(lambda: self._follow(claim)))

    def _follow(self, claim: Answer[bool]) -> None:
        if claim.result() and self._decided is not None:
            self._placer.open(self._decided[1])
