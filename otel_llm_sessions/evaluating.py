"""Saying how good an answer was: ``evaluate(...)``, and ``aevaluate(...)`` for callers on an event loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from opentelemetry.context import Context, get_current

from otel_llm_sessions.guard import pass_on, report
from otel_llm_sessions.session import current_session
from otel_llm_sessions.sessions.blocks import seen_from_here
from otel_llm_sessions.sessions.link import SessionId
from otel_llm_sessions.sessions.names import MAX_ID, id_of
from otel_llm_sessions.sessions.sources import session_id_of
from otel_llm_sessions.sessions.texts import MAX_LENGTH, as_text, is_id, refuse
from otel_llm_sessions.telemetry.evaluation import Evaluation

MAX_EXPLANATION: Final = 16_384
"""Characters of an explanation; of a longer one the first are kept."""

_TEXT: Final = f"a printable string of 1 to {MAX_LENGTH} characters"
_ID: Final = f"a printable string of 1 to {MAX_ID} characters"


class Evaluator(Protocol):
    """Puts judgements where people look; a running instrumentation offers it."""

    def evaluate(self, evaluation: Evaluation, session_id: SessionId | None, context: Context) -> bool:
        """Emit a judgement; return whether what it is of is known.

        Args:
            evaluation: the judgement.
            session_id: the session; None for that of the response.
            context: where it is given.
        """
        ...

    async def aevaluate(self, evaluation: Evaluation, session_id: SessionId | None, context: Context) -> bool:
        """As ``evaluate``, for callers on an event loop."""
        ...


_evaluator: Callable[[], Evaluator | None] | None = None


def set_evaluator(evaluator: Callable[[], Evaluator | None] | None) -> None:
    """Set what takes judgements, asked when it is needed; None when nothing is instrumented."""
    global _evaluator
    _evaluator = evaluator


def evaluate(
    name: str,
    *,
    session_id: str | int | None = None,
    response_id: str | None = None,
    score: float | None = None,
    label: str | None = None,
    explanation: str | None = None,
) -> bool:
    """Say how good a session, or one response of it, was: a user's thumbs up, a judge's score.

    The judgement becomes the event ``gen_ai.evaluation.result`` of the GenAI conventions, and a span
    ``evaluation {name}`` below the root of the session, with a link to the turn that was meant if that is known. With
    ``TRACES=turn`` the span is a child of that turn, or a root of its own. Any process may say it that shares the
    store, or that knows the session's id. It holds the caller up for 50 ms at most, as ``session(...)`` does; what
    becomes known later is emitted then.

    Nothing happens, and the answer is False, before ``instrument()`` and after ``uninstrument()``.

    Example::

        evaluate("thumbs", session_id="support-42", score=1, label="up")

    Args:
        name: what is judged, a printable string of 1 to 256 characters; few values, since it names spans.
        session_id: the session; without it the one that the response belongs to, or without that, too,
            ``current_session()``. One that nobody knows is opened, as by a turn.
        response_id: the response that is meant, a printable string of 1 to 1,024 characters. Responses, and
            chat completions that belong to a session, are known by their ids.
        score: a finite number.
        label: the score for people, a printable string of 1 to 256 characters; few values.
        explanation: why; of more than 16,384 characters the first are kept.

    Returns:
        Whether it was emitted, or is going to be. False for a response that nobody knows, where no session is named,
        and for one that is known to be of another session than ``session_id``.

    Raises:
        ValueError: something is not valid, or there is neither an id nor a current session.
    """
    told = _told(name, session_id, response_id, score, label, explanation)
    try:
        evaluator = _evaluator() if _evaluator is not None else None
        return evaluator is not None and evaluator.evaluate(*told)
    except Exception as error:
        report("evaluate", error)
        return False


async def aevaluate(
    name: str,
    *,
    session_id: str | int | None = None,
    response_id: str | None = None,
    score: float | None = None,
    label: str | None = None,
    explanation: str | None = None,
) -> bool:
    """As ``evaluate``, for callers on an event loop, which is not held up.

    Example::

        async def feedback(up: bool) -> None:
            await aevaluate("thumbs", session_id="support-42", score=int(up))

    Args:
        name: see ``evaluate``, like all that follow.
        session_id: see there.
        response_id: see there.
        score: see there.
        label: see there.
        explanation: see there.

    Returns:
        See ``evaluate``.

    Raises:
        ValueError: see ``evaluate``.
    """
    told = _told(name, session_id, response_id, score, label, explanation)
    try:
        evaluator = _evaluator() if _evaluator is not None else None
        return evaluator is not None and await evaluator.aevaluate(*told)
    except Exception as error:
        report("evaluate", error)
        return False


def _told(
    name: Any, session_id: Any, response_id: Any, score: Any, label: Any, explanation: Any
) -> tuple[Evaluation, SessionId | None, Context]:
    """Return a judgement, the session that is named, and where it is given."""
    _check("name", name, is_id(_plain(name)), _TEXT)
    _check("label", label, label is None or is_id(_plain(label)), _TEXT)
    _check("explanation", explanation, explanation is None or isinstance(explanation, str), "a string")
    _check("response_id", response_id, response_id is None or id_of(response_id) is not None, _ID)
    evaluation = Evaluation(
        _plain(name),
        _score(score),
        _plain(label),
        _plain(explanation)[:MAX_EXPLANATION].encode("utf-8", "replace").decode(),  # without half a character
        _plain(response_id),
        time.time_ns(),
    )
    return evaluation, _session_of(session_id, response_id), seen_from_here(get_current())


def _session_of(session_id: Any, response_id: Any) -> SessionId | None:
    """Return the session that is named; where neither it nor a response is, that of the current context."""
    if session_id is not None:
        named = session_id_of(session_id)
        _check("session_id", session_id, named is not None, f"{_TEXT} or a number")
        return named
    if response_id is not None:
        return None
    current = current_session()
    if current is None:
        raise ValueError("evaluate() needs session_id or response_id where there is no current session")
    return SessionId(current.id)


def _score(score: Any) -> float | None:
    if score is None:
        return None
    try:
        number = math.nan if isinstance(score, (bool, str, bytes)) else float(score)
    except Exception as error:  # whatever it says when it is asked for its number
        pass_on(error)
        number = math.nan
    _check("score", score, math.isfinite(number), "a finite number")
    return number


def _plain(value: Any) -> str:
    """Return a string as a plain one (an enum's member, too); an empty one for anything else."""
    return as_text(value) if isinstance(value, str) else ""


def _check(parameter: str, value: Any, is_valid: bool, allowed: str) -> None:
    if not is_valid:
        refuse(parameter, value, allowed)
