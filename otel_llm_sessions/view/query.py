"""Which sessions are asked for, and in what order: the same for the command line, the page and every source."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final, Literal, get_args

from otel_llm_sessions.view.summaries import Summary

Sort = Literal["last", "turns", "tokens", "cost", "duration"]

SECOND: Final = 1_000_000_000
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
TIMES: Final = "an age such as 90s, 15m, 24h or 7d, or a time such as 2026-01-31T12:00:00Z"
TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?)?", re.ASCII | re.IGNORECASE
)
"""RFC 3339, section 5.6: day, time of the day, fraction of a second, zone; all but the day may be missing."""

MOST: Final = 10_000
"""Sessions that one answer may hold."""
LONGEST: Final = 1_000
"""Characters that a filter's text may have."""

SORTED_BY: Final[dict[Sort, Callable[[Summary], float]]] = {
    "last": lambda one: one.last,
    "turns": lambda one: one.turns,
    "tokens": lambda one: (one.input_tokens or 0) + (one.output_tokens or 0),
    "cost": lambda one: one.cost or 0.0,
    "duration": lambda one: one.duration,
}
"""What each order goes by, the greatest first."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which sessions are asked for. An empty text asks for all.

    Args:
        since: sessions that had a turn at this time or later; nanoseconds since the epoch, None for any time.
        until: sessions that had begun at this time; nanoseconds since the epoch, None for any time.
        service: the name of a service that one of its turns came from, exactly.
        user: whose session it is, exactly.
        model: a model that answered one of its turns, or the beginning of its name.
        name: what the application called it, or a part of that, whichever letters are capitals.
        errors: only sessions in which a turn failed.
        min_turns: only sessions of at least so many turns.
        text: a part of its id, name, user, tags, services or models, or (where a source can see them) of its words;
            or the id of one of its responses or traces, or one under which some of its turns were filed.
        sort: by what, the greatest first.
        limit: how many sessions at most.
        cursor: where to go on: the ``next_cursor`` of the page before.
    """

    since: int | None = None
    until: int | None = None
    service: str = ""
    user: str = ""
    model: str = ""
    name: str = ""
    errors: bool = False
    min_turns: int = 0
    text: str = ""
    sort: Sort = "last"
    limit: int = 50
    cursor: str = ""

    def matches(self, session: Summary) -> bool:
        """Whether a session is one of those, its ``text`` aside (which some sources look for in words too)."""
        return (
            (self.since is None or session.last >= self.since)
            and (self.until is None or session.first <= self.until)
            and (not self.service or self.service in session.services)
            and (not self.user or self.user == session.user)
            and (not self.model or any(model.startswith(self.model) for model in session.models))
            and self.name.casefold() in (session.name or "").casefold()
            and (not self.errors or session.errors > 0)
            and session.turns >= self.min_turns
        )

    def is_said_in(self, session: Summary) -> bool:
        """Whether the ``text`` stands in what a row shows."""
        said = (session.id, session.name, session.user, *session.tags, *session.services, *session.models)
        return any(self.text.casefold() in each.casefold() for each in said if each)

    def ordered(self, sessions: Iterable[Summary]) -> list[Summary]:
        """The sessions as ``sort`` says; those that are equal in it by their last turn, then by id."""
        key = SORTED_BY[self.sort]
        return sorted(sessions, key=lambda one: (-key(one), -one.last, one.id))


def query_of(said: Mapping[str, str], now: int | None = None) -> Query:
    """Read a query from texts: an address's parameters, or a command line's options.

    Args:
        said: by the names of :class:`Query`'s fields; an empty text says nothing, other names are ignored.
        now: nanoseconds since the epoch from which ages count back; the present by default.

    Raises:
        ValueError: a value is not valid; the message names it and what is allowed.
    """
    texts = {name: said.get(name, "") for name in ("service", "user", "model", "name", "text", "cursor")}
    for name, text in texts.items():
        if len(text) > LONGEST:
            raise ValueError(f"{name} is not valid: expected at most {LONGEST} characters, not {len(text)}")
    texts["text"] = texts["text"].strip()  # as it is pasted
    return Query(
        since=moment(said["since"], "since", now) if said.get("since") else None,
        until=moment(said["until"], "until", now) if said.get("until") else None,
        errors=_yes(said.get("errors", "")),
        min_turns=_number(said.get("min_turns") or "0", "min_turns", 0, 10**9),
        sort=_sort(said.get("sort") or "last"),
        limit=_number(said.get("limit") or "50", "limit", 1, MOST),
        **texts,
    )


def moment(said: str, name: str = "time", now: int | None = None) -> int:
    """Read a time, as an age (``90s``, ``15m``, ``24h``, ``7d``, ``2w``) or as RFC 3339 (UTC where it names no zone).

    Returns:
        Nanoseconds since the epoch.

    Raises:
        ValueError: it is neither; the message says so, with the name.
    """
    number, unit = said[:-1], said[-1:]
    if unit in UNITS and number.isascii() and number.isdigit() and len(number) <= 9:
        return max(0, (time.time_ns() if now is None else now) - int(number) * UNITS[unit] * SECOND)
    try:
        day, clock, fraction, zone = TIME.fullmatch(said).groups("")  # type: ignore[union-attr]
        # Python 3.10 reads no "Z", and no fraction of another length than three or six.
        at = datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone.upper().replace('Z', '') or '+00:00'}")
        return max(0, (at - BEGINNING) // timedelta(seconds=1) * SECOND + int(fraction.ljust(9, "0")))
    except (AttributeError, ValueError, OverflowError):
        raise ValueError(f"{name} {said!r} is not valid: expected {TIMES}") from None


def _yes(said: str) -> bool:
    if said.lower() in ("", "0", "false", "no"):
        return False
    if said.lower() in ("1", "true", "yes", "on"):
        return True
    raise ValueError(f"errors {said!r} is not valid: expected true or false")


def _number(said: str, name: str, least: int, most: int) -> int:
    if said.isascii() and said.isdigit() and len(said) <= 18 and least <= int(said) <= most:
        return int(said)
    raise ValueError(f"{name} {said!r} is not valid: expected a whole number from {least} to {most}")


def _sort(said: str) -> Sort:
    for allowed in get_args(Sort):
        if said == allowed:
            return allowed  # type: ignore[no-any-return]
    raise ValueError(f"sort {said!r} is not valid: expected one of {', '.join(get_args(Sort))}")
