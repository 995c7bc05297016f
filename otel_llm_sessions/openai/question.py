"""A question that has been asked, and how long the application may wait for its answer."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from otel_llm_sessions.stores.answer import Answer

BUDGET: Final = 0.05
"""Seconds that a call waits for all that it asks and records."""

ANYTHING: Final = "anything"
"""A key to ask for where only the asking matters."""

AGAIN: Final = 0.05
"""Seconds after which a store is asked again for what it did not know: the process before may still be writing."""

YET_AGAIN: Final = (0.15, 0.75, 1.75)
"""Seconds after that at which a store that was late is asked still: others' records may be late, too."""

TIMES_AS_LATE: Final = 5
"""How many times as late as an answer others' records may be."""


class Question(NamedTuple):
    """A question that has been asked."""

    answer: Answer[Any]
    is_beside: bool = False
    """Whether the application never waits for it."""
    is_a_stores: bool = True
    """Whether the answer comes on a store's thread, which has others to serve."""
    is_a_turns: bool = False
    """Whether it is what a turn before leaves: who waits for that is told before others are told anything."""
