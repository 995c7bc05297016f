"""What waits to be written to a store that did not take it: bounded, the oldest makes room."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from itertools import islice

from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.newest import is_newer
from otel_llm_sessions.stores.shared import Claim, Entry, Withdraw

WITHDRAWN_AFTER = 1.0
"""Seconds for which a claim whose caller was cancelled is kept for this process's next turn, in case it was got."""

AT_ONCE = 200


class Backlog:
    """Links, claims, and claims to be withdrawn; for any thread, and for a signal's handler amid a use."""

    def __init__(self, max_keys: int) -> None:
        self._links: Bounded[str, SessionLink] = Bounded(max_keys)
        self._claims: Bounded[str, bytes] = Bounded(max_keys)
        self._withdrawals: Bounded[str, tuple[bytes, float]] = Bounded(max_keys)
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._links) + len(self._claims) + len(self._withdrawals)

    def keep(self, entries: Iterable[Entry]) -> None:
        """Put links on the backlog, unless what waits under their keys says something later."""
        with self._lock:
            for key, link in entries:
                waiting = self._links.get(key)
                if waiting is None or not is_newer(key, waiting, link):
                    self._links[key] = link

    def keep_claim(self, key: str, token: bytes) -> None:
        """Put a claim on the backlog."""
        with self._lock:
            self._claims[key] = token

    def withdraw(self, key: str, token: bytes) -> None:
        """Put the withdrawal of a claim on the backlog, whether or not the store has the claim."""
        with self._lock:
            self._claims.pop(key, None)
            self._withdrawals[key] = token, time.monotonic() + WITHDRAWN_AFTER

    def token_of(self, key: str) -> bytes | None:
        """Return the token of a claim that was about to be withdrawn, and leave the claim: who asks has it now."""
        with self._lock:
            return self._withdrawals.pop(key, (None, 0.0))[0] if self._withdrawals else None

    def link_of(self, key: str) -> SessionLink | None:
        """Return what waits to be written under ``key``."""
        return self._links.get(key) if self._links else None

    def links(self) -> list[Entry]:
        """Return links that wait, the oldest first."""
        with self._lock:
            return list(islice(self._links.items(), AT_ONCE))

    def claims(self) -> list[Claim]:
        """Return claims that wait."""
        with self._lock:
            return [Claim(key, token) for key, token in islice(self._claims.items(), AT_ONCE)]

    def withdrawals(self, *, all_: bool = False) -> list[Withdraw]:
        """Return the withdrawals that are due, or ``all_``."""
        now = time.monotonic()
        with self._lock:
            waiting = islice(self._withdrawals.items(), AT_ONCE)
            return [Withdraw(key, token) for key, (token, due) in waiting if all_ or due <= now]

    def done(self, entries: Iterable[Entry] = (), claims: Iterable[Claim | Withdraw] = ()) -> None:
        """Take off the backlog what was written, unless something else waits under the same key by now."""
        with self._lock:
            for key, link in entries:
                if self._links.get(key) is link:
                    del self._links[key]
            for claim in claims:
                if isinstance(claim, Claim):
                    if self._claims.get(claim.key) is claim.token:
                        del self._claims[claim.key]
                elif self._withdrawals.get(claim.key, (None, 0.0))[0] is claim.token:
                    del self._withdrawals[claim.key]

    def postpone(self, entries: Iterable[Entry]) -> None:
        """Let others go first."""
        with self._lock:
            for key, _ in entries:
                self._links.renew(key)

    def due_in(self) -> float | None:
        """Return in how many seconds something is to be written; None: nothing waits."""
        with self._lock:
            if self._links or self._claims:
                return 0.0
            if not self._withdrawals:
                return None
            return max(0.0, next(iter(self._withdrawals.values()))[1] - time.monotonic())
