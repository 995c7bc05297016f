"""Puts ``session(...)`` into its session's trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.context import Context, set_value
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import get_current_span

from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.sessions.inside import ROOT_CONTEXT_KEY, SessionRoot, is_session_root
from otel_llm_sessions.sessions.keys import session_key
from otel_llm_sessions.sessions.link import SessionId, SessionLink
from otel_llm_sessions.sessions.resolver import Evidence, Resolution, resolve
from otel_llm_sessions.sessions.sources import Given, name_in
from otel_llm_sessions.telemetry.span import outside
from otel_llm_sessions.traces.roots import Plan


class SessionOpener:
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
            around = self._around(context)
            if around is None:
                return context
            store = self._runtime.store
            resolution, plan = self._plan(session_id, store.get_all((session_key(session_id),)), context)
            owner = plan.opening is not None and store.claim(plan.opening.claim_key)
            return self._inside(resolution, plan, owner, around)
        except Exception as error:
            report("open a session", error)
            return context

    async def aenter(self, session_id: str, context: Context) -> Context:
        """As ``enter``, for callers on an event loop."""
        if self._runtime.store_never_waits:
            return self.enter(session_id, context)
        try:
            around = self._around(context)
            if around is None:
                return context
            store = self._runtime.store
            resolution, plan = self._plan(session_id, await store.aget_all((session_key(session_id),)), context)
            owner = plan.opening is not None and await store.aclaim(plan.opening.claim_key)
            return self._inside(resolution, plan, owner, around)
        except Exception as error:
            report("open a session", error)
            return context

    def _around(self, context: Context) -> Context | None:
        """Return where to open the session: ``context``, without a call of ours in flight there; None under a span."""
        self._on_use()
        if self._runtime.settings.traces != "session" or not is_instrumentation_enabled():
            return None
        around, span = outside(context, get_current_span(context))
        current = span.get_span_context()
        return around if not current.is_valid or is_session_root(around, current) else None

    def _plan(
        self, session_id: str, answers: Sequence[SessionLink | None], context: Context
    ) -> tuple[Resolution, Plan]:
        given = Given(SessionId(session_id), "context")
        resolution = resolve(Evidence(given, None, None), answers, starts_session=False)
        resolution = resolution.named(name_in(context, session_id))
        return resolution, self._runtime.homes.get().placer.plan(resolution, is_turn=False)

    def _inside(self, resolution: Resolution, plan: Plan, owner: bool, context: Context) -> Context:
        placer = self._runtime.homes.get().placer
        placement = placer.place(resolution, plan, owner, context, get_current_span(Context()), weak=False)
        if placement.trace is None:
            return context
        root = SessionRoot(str(resolution.session_id), get_current_span(placement.context))
        return set_value(ROOT_CONTEXT_KEY, root, placement.context)
