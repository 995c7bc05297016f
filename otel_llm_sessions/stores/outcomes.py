"""What comes of what a store is asked: answers, or faults of the store's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.newest import is_newer
from otel_llm_sessions.stores.shared import Entry, StoreDown, StoreRefused


def answer_of(outcome: Any) -> Answer[Any]:
    """Return an answer that is there already: what came of it, or the fault."""
    if not isinstance(outcome, BaseException):
        return Answer.of(outcome)
    answer: Answer[Any] = Answer()
    answer.fail(outcome)
    return answer


def is_well(outcome: Any) -> bool:
    """Whether it is no fault."""
    return not isinstance(outcome, BaseException)


def raised(outcomes: Sequence[Any]) -> None:
    """Raise the first fault among them."""
    for outcome in outcomes:
        if not is_well(outcome):
            raise outcome


def says_more(entry: Entry, found: Any) -> bool:
    """Whether an entry is to be written, if ``found`` is what the store has under its key."""
    return not is_well(found) or found[0] is None or is_newer(*entry, found[0])


def plain(fault: BaseException) -> BaseException:
    """Return a store's own fault without its traceback, which says nothing more and takes a caller's time to print."""
    if isinstance(fault, (StoreDown, StoreRefused)):
        fault.__traceback__ = fault.__cause__ = fault.__context__ = None
    return fault
